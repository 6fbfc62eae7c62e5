"""What can't end well is said before any work, and says what is wrong."""

import os
import signal
import subprocess
import time

import pytest
from serving import serving

RECIPE = ["--layers", "1-3", "--passes", "60"]
TO_BYTES = ["--calibrate", "random", "--calibrate-tokens", "64", "--passes", "5"]


@pytest.fixture(scope="module")
def model(models):
    return models / "mini-qwen3-moe"


def refused(mobe, *arguments):
    said = mobe(*arguments, code=1)
    assert said.startswith("mobe: ") and said.count("\n") == 1
    return said


COMMANDS = ("inspect", "verify", "serve", "bench", "doctor", "chat", "eval MODEL --tasks arc_easy --data TEXT")


@pytest.mark.parametrize(
    "command", [*COMMANDS, "generate --prompt hi", "perplexity MODEL TEXT", "compare MODEL MODEL TEXT"]
)
def test_what_is_no_model(command, mobe, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Some text.")
    (tmp_path / "job/.mobe").mkdir(parents=True)
    for folder, message in (
        (tmp_path / "nothing", "nothing: no such folder"),
        (text, "text.txt: a file, expected a model's folder"),
        (tmp_path / "job", "job: no model yet, but a job that is not finished, or a part"),
    ):
        words = command.split()
        if "MODEL" not in words:
            words.insert(1, "MODEL")
        given = {"MODEL": folder, "TEXT": text}
        assert message in refused(mobe, *[given.get(word, word) for word in words])


def test_a_server_ends_with_what_it_cannot_load(mobe, model, tmp_path):
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    for _ in range(5):
        said = mobe("serve", tmp_path, "--port", "0", code=1, timeout=30)
        assert "tokenizer.json: cannot open" in said


def test_too_few_bytes_are_told_before_the_fit(mobe, model, tmp_path):
    for dry in ([], ["--dry-run"]):
        said = refused(mobe, "compress", model, tmp_path / "out", "--bytes", "1MB", *TO_BYTES, *dry)
        assert "1.00 MB are asked for, and 6.14 MB are the least" in said
        assert not (tmp_path / "out").exists()
    plan = mobe(
        *("compress", model, tmp_path / "out", "--bytes", "7MB", *TO_BYTES, "--dry-run", "--json")
    )
    assert plan["bytes_out"] == 7_000_000


def test_a_dry_run_refuses_the_folder_that_the_run_would(mobe, model, tmp_path):
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "mine.txt").touch()
    file.touch()
    (tmp_path / "link").symlink_to("nowhere")
    for out, message in (
        (full, "already holds mine.txt"),
        (model, "already holds"),
        (file, "not a folder, expected a new or empty one"),
        (file / "below", "can't be made there"),
        (tmp_path / "link", "a link to what is not there"),
    ):
        for dry in (["--dry-run"], []):
            assert message in refused(mobe, "compress", model, out, *RECIPE, "--quiet", *dry)


def test_layers_that_are_not_there(mobe, model, tmp_path):
    for arguments in (
        ("compress", model, tmp_path / "out", "--layers", "4-99"),
        ("quantize", model, tmp_path / "out", "--format", "int4", "--part-formats", "down.6=int5"),
    ):
        assert "the model has layers 0 to 5" in refused(mobe, *arguments)


def test_a_start_is_read_before_the_job_begins(mobe, model, tmp_path):
    start, out = tmp_path / "start", tmp_path / "out"
    start.write_text("no tensors in here")
    command = ["compress", model, out, "--layers", "2", "--passes", "5", "--quiet"]
    assert "start: a header of" in refused(
        mobe, *command, "--solver", "reference", "--start", start
    )
    mobe(*command)


def test_a_quantised_model_is_no_original(mobe, model, tmp_path):
    packed, factored = tmp_path / "packed", tmp_path / "factored"
    mobe("quantize", model, packed, "--format", "int8", "--parts", "embedding")
    mobe("compress", model, factored, "--layers", "2", "--passes", "2")
    said = "packed: is quantised already"
    assert said in refused(mobe, "verify", factored, "--against", packed)
    page = tmp_path / "page.html"
    assert said in refused(mobe, "report", factored, "--original", packed, "-o", page)


def test_a_part_is_named_where_a_job_is_another(mobe, model, tmp_path):
    out = tmp_path / "out"
    command = ["compress", model, out, "--layers", "2", "--passes", "2"]
    mobe(*command, "--shard", "0/2")
    said = mobe(*command, code=1)
    assert "holds a job begun with another --shard (part 0/2, now no part)" in said


def test_one_token_has_no_standard_error(mobe, model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a b")
    for said in (mobe("perplexity", model, text), mobe("compare", model, model, text)):
        assert "1 tokens in" in said
        assert "nan" not in said and "+-" not in said


# --- compress --trace


def rows(trace):
    header, *lines = trace.read_text().splitlines()
    assert header == "layer,matrix,pass,seconds,mse_scaled"
    return [tuple(line.split(",")[:3]) for line in lines]


def test_a_trace_that_cannot_be_written(mobe, model, tmp_path):
    out = tmp_path / "out"
    for trace, message in (
        (out / "config.json", "lies in the output folder"),
        (tmp_path / "no/trace.csv", "cannot be written: "),
    ):
        said = refused(mobe, "compress", model, out, *RECIPE, "--trace", trace)
        assert message in said
        assert not out.exists()


def test_the_trace_of_a_job_that_is_continued_is_whole(mobe, mobe_program, model, tmp_path):
    out, trace = tmp_path / "out", tmp_path / "trace.csv"
    command = ["compress", model, out, "--layers", "1-3", "--passes", "200", "--trace", trace]
    process = subprocess.Popen(
        [str(part) for part in (mobe_program, *command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list((out / ".mobe").glob("layer-*.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert {("1", "gate", "1"), ("1", "gate", "200")} <= set(rows(trace))
    mobe(*command)
    every = [
        (layer, kind, str(p + 1))
        for layer in "123"
        for kind in ("gate", "up")
        for p in range(200)
    ]
    assert sorted(rows(trace)) == sorted(every)
    trace.unlink()
    assert "finished before" in mobe(*command)
    assert not trace.exists()


def test_calibrate_leaves_nothing_half_written(mobe_program, model, tmp_path):
    process = subprocess.Popen(
        [mobe_program, "calibrate", model, "random", tmp_path / "m.st"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not os.listdir(tmp_path):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and "stopped" in said
    assert not os.listdir(tmp_path)


# --- mobe serve


def test_refusals_of_the_server_say_what_was_expected(mobe_program, model):
    with serving(mobe_program, model) as server:
        for path, body, message in (
            ("/v1/completions", '{"prompt": []}', "/prompt: expected a text, ids of tokens"),
            ("/v1/completions", '{"prompt": "a", "stop": ""}', "/stop: expected a text of 1 to"),
            ("/detokenize", '{"tokens": [1, 99999]}', "token id 99999 is not in the model's"),
        ):
            status, _, text = server.request(path, body)
            assert status == 400 and message in text
        status, _, text = server.request("/" + "x" * 9000)
        assert status == 414 and "expected a path of 8 KiB" in text
