"""mobe bench: what is run and printed; no time is looked at."""

import csv
import io
import json
import math

import pytest

COLUMNS = [
    "test", "depth", "batch", "threads", "dtype", "experts", "experts_found",
    "tokens_per_second", "deviation", "bytes_per_token", "bytes_per_second", "share_of_reading",
    "operations_per_second", "share_of_products",
]  # fmt: skip
QUICK = ["-p", 8, "-n", 4, "-r", 2]


@pytest.fixture(scope="module")
def tiny(data):
    return data / "models/qwen3_moe"


@pytest.fixture(scope="module")
def factored(data):
    return data / "models/qwen3_mobe"


def test_json(mobe, tiny):
    # As --json gives it, which the other tests ask for.
    printed = mobe("bench", tiny, *QUICK, "--mixed", "6+3", "--output", "json")
    report = json.loads(printed)
    assert report["model"] == str(tiny) and report["repeat"] == 2
    prompt, text, mixed = report["results"]
    assert [row["test"] for row in report["results"]] == ["pp8", "tg4", "pp6+tg3"]
    for row in report["results"]:
        assert set(row) == {*COLUMNS, "seconds"}
        assert row["experts"] == "plain" and row["dtype"] in ("float32", "bfloat16")
        assert row["experts_found"] == 1
        assert row["depth"] == 0 and row["batch"] == 1
        assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0
    # The mean of the rounds' rates.
    rates = [4 / seconds for seconds in text["seconds"]]
    assert math.isclose(text["tokens_per_second"], sum(rates) / 2)
    assert prompt["bytes_per_token"] is None and mixed["bytes_per_second"] is None
    gigabytes = text["bytes_per_token"] * text["tokens_per_second"]
    assert math.isclose(text["bytes_per_second"], gigabytes)
    (peaks,) = report["peaks"]
    share = text["bytes_per_second"] / peaks["bytes_per_second"]
    assert math.isclose(text["share_of_reading"], share)
    products = peaks["operations_per_second"]
    share = prompt["operations_per_second"] / products[prompt["dtype"]]
    assert math.isclose(prompt["share_of_products"], share)


def test_bytes_of_a_token(mobe, tiny, factored):
    """Weights, and keys and values of the tokens before, in bfloat16."""

    def bytes_of(folder, *options):
        report = mobe("bench", folder, "-p", 0, "-r", 1, *options, "--json")
        return [row["bytes_per_token"] for row in report["results"]]

    one, four, deep, deep_four = bytes_of(tiny, "-n", "1,4", "--depth", "0,100")
    token = 3 * 2 * 2 * 32 * 2  # 3 layers, 2 heads of 32
    assert four - one == 1.5 * token  # 1 + 2 + 3 + 4 tokens in 4 steps
    assert deep - one == deep_four - four == 100 * token
    built, fused = bytes_of(
        factored, "-n", 1, "--experts", "built,fused", "--dtype", "bfloat16"
    )
    assert built == one and fused != one


def test_every_combination(mobe, factored):
    report = mobe(
        "bench", factored, "-p", "4,6", "-n", 2, "--mixed", "3+2", "--depth", "0,5",
        "--batch", "1,2", "--threads", "1,2", "--dtype", "float32,bfloat16",
        "--experts", "built,fused", "-r", 1, "--json",
    )  # fmt: skip
    keys = ("test", "depth", "batch", "threads", "dtype", "experts")
    found = {tuple(row[key] for key in keys) for row in report["results"]}
    expected = {
        (test, depth, batch, threads, dtype, experts)
        for test in ("pp4", "pp6", "tg2", "pp3+tg2")
        for depth in (0, 5)
        for batch in (1, 2)
        for threads in (1, 2)
        for dtype in ("float32", "bfloat16")
        for experts in ("built", "fused")
    }
    assert found == expected and len(report["results"]) == len(expected)
    assert [peaks["threads"] for peaks in report["peaks"]] == [1, 2]


def test_csv_and_markdown(mobe, tiny):
    text = mobe("bench", tiny, *QUICK, "--depth", "0,3", "--output", "csv", "--quiet")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == COLUMNS
    assert [(row["test"], row["depth"]) for row in rows] == [
        ("pp8", "0"), ("tg4", "0"), ("pp8", "3"), ("tg4", "3"),
    ]  # fmt: skip
    assert rows[0]["bytes_per_token"] == "" and float(rows[1]["bytes_per_token"]) > 0
    lines = mobe("bench", tiny, *QUICK).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:4]]
    assert {len(line) for line in cells} == {len(COLUMNS)}
    assert cells[2][0] == "pp8" and cells[3][0] == "tg4"
    assert lines[4] == "" and lines[5].startswith("peaks of ")


def test_without_a_tokenizer(mobe, tiny, tmp_path):
    for file in tiny.iterdir():
        if file.name == "config.json" or "model" in file.name:
            (tmp_path / file.name).symlink_to(file)
    assert len(mobe("bench", tmp_path, *QUICK, "--json")["results"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "5,x"], "--prompt 5,x: expected whole numbers from 0 to 10,000,000, s"),
        (["-n", "5,"], "--generate 5,: expected whole numbers"),
        (["--depth", "-1"], "--depth -1: expected whole numbers from 0"),
        (["--batch", "0"], "--batch 0: expected whole numbers from 1 to 512"),
        (["--threads", "1,,2"], "--threads 1,,2: expected whole numbers from 1 to 512"),
        (["--mixed", "512"], "--mixed 512: expected tokens of a prompt and of a text"),
        (["--dtype", "float32,int3"], "expected auto, float32, bfloat16, separated by"),
        (["--experts", "all"], "--experts all: expected auto, built"),
        (["-r", "0"], "--repeat 0: expected a whole number from 1"),
        (["--output", "xml"], "--output xml: expected markdown, csv, json"),
    ],
)
def test_wrong_lists_are_wrong_usage(mobe, tiny, options, message):
    assert message in mobe("bench", tiny, *options, code=2)


def test_what_cannot_run(mobe, tiny):
    error = mobe("bench", tiny, "-p", 0, "-n", 0, code=1)
    assert "nothing to time" in error and error.count("\n") == 1
    error = mobe("bench", tiny, "--depth", 40960, code=1)
    assert "a context of 41472 tokens, expected 1 to 40960" in error
    assert "no_model" in mobe("bench", "no_model", code=1)
