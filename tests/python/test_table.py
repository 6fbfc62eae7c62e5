"""`mobe table`: the numbers of compare and perplexity, in one table."""

import csv
import io
import json

import html5lib
import pytest

OPTIONS = ["--max-tokens", 80, "--speed-tokens", 2]


@pytest.fixture(scope="module")
def small(mobe, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("table") / "small"
    mobe("quantize", models / "mini-qwen3-moe", out, "--format", "int8")
    return out


@pytest.fixture(scope="module")
def texts(models, tmp_path_factory):
    """Two, which differ."""
    sample = models / "mini-qwen3-moe/sample.txt"
    other = tmp_path_factory.mktemp("texts") / "other.txt"
    other.write_text(sample.read_text()[3000:6000])
    return [sample, other]


def test_has_the_numbers_of_compare(mobe, models, small, texts, tmp_path):
    original = models / "mini-qwen3-moe"
    named = [part for text in texts for part in ("--text", text)]
    table = mobe("table", original, small, *named, *OPTIONS, "--json")
    assert table["texts"] == ["sample", "other"]
    base, other = table["models"]
    assert (base["model"], other["model"]) == ("mini-qwen3-moe", "small")
    for i, text in enumerate(texts):
        expected = mobe("compare", original, small, text, "--max-tokens", 80, "--json")
        assert "kld" not in base["texts"][i]
        assert base["texts"][i]["ppl"] == expected["ppl_base"]
        assert other["texts"][i]["ppl"] == expected["ppl_other"]
        assert other["texts"][i]["kld"] == expected["kld_mean"]
        assert other["texts"][i]["top1_agreement"] == expected["top1_agreement"]
    for model, folder in ((base, original), (other, small)):
        assert model["bytes"] == mobe("inspect", folder, "--json")["bytes"]
        assert model["tokens_per_second"] > 0

    file = tmp_path / "table.json"
    file.write_text(json.dumps(table))
    page = tmp_path / "page.html"
    mobe("report", small, "--table", file, "-o", page)
    html = page.read_text()
    html5lib.HTMLParser(strict=True).parse(html)
    assert f"<td>{other['texts'][1]['kld']:.5f}</td>" in html
    assert f"<td>{other['tokens_per_second']:.1f}</td>" in html
    assert "finished before" in mobe("report", small, "--table", file, "-o", page)
    file.write_text("[]")
    assert "mobe table --json" in mobe("report", small, "--table", file, "-o", page, code=1)


def test_forms(mobe, models, small, texts):
    command = ["table", models / "mini-qwen3-moe", small, "--text", texts[0], *OPTIONS]
    rows = list(csv.DictReader(io.StringIO(mobe(*command, "--output", "csv"))))
    assert [row["model"] for row in rows] == ["mini-qwen3-moe", "small"]
    assert int(rows[1]["bytes"]) < int(rows[0]["bytes"])
    assert rows[0]["KLD"] == "" and float(rows[1]["KLD"]) > 0
    for form, beginning in (("text", "model "), ("markdown", "| model "), ("latex", "\\begin{tab")):
        printed = mobe(*command, "--output", form)
        assert printed.startswith(beginning) and "perplexity" in printed


def test_a_model_alone(mobe, models, texts):
    options = ["--max-tokens", 80, "--speed-tokens", 0]
    printed = mobe("table", models / "mini-qwen3-moe/", "--text", texts[0], *options)
    titles, row = (line.split() for line in printed.splitlines())
    assert titles == ["model", "bytes", "perplexity"] and row[0] == "mini-qwen3-moe"


def test_other_tokenizers_are_refused(mobe, models, data, texts):
    said = mobe(
        "table", models / "mini-qwen3-moe", data / "models/qwen3_moe", "--text", texts[0], code=1
    )
    assert said.count("\n") == 1
