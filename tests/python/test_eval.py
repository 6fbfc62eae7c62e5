"""`mobe eval` against transformers (log-likelihoods, greedy answers) and sacrebleu."""

import json

import pytest
import sacrebleu
import torch
from checkpoints import load_stock
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def bundled(models):
    folder = models / "mini-qwen3-moe"
    return folder, Tokenizer.from_file(str(folder / "tokenizer.json"))


def items_of(log, model="model"):
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert list(lines[0]) == ["mobe_eval"]
    return [line for line in lines[1:] if line["model"] == model]


def log_likelihood(stock, tokenizer, context, choice):
    """As lm-eval's TemplateLM encodes and its hf model scores."""
    ids = tokenizer.encode(context).ids
    tokens = tokenizer.encode(context + choice).ids[len(ids) :]
    with torch.no_grad():
        logits = stock(torch.tensor([ids + tokens])).logits[0].log_softmax(-1)
    rows = logits[len(ids) - 1 : -1]
    return sum(row[token].item() for row, token in zip(rows, tokens, strict=True))


def test_log_likelihoods_and_accuracies(mobe, data, bundled, tmp_path):
    folder, tokenizer = bundled
    questions = data / "eval/arc.jsonl"
    log = tmp_path / "log"
    ours = mobe("eval", folder, "--tasks", "arc_easy", "--data", questions, "--log", log, "--json")
    stock = load_stock(folder)
    hits, normed = [], []
    entries = [json.loads(line) for line in questions.read_text().splitlines()]
    for entry, item in zip(entries, items_of(log), strict=True):
        choices = entry["choices"]["text"]
        context = f"Question: {entry['question']}\nAnswer:"
        wanted = [log_likelihood(stock, tokenizer, context, " " + choice) for choice in choices]
        assert item["log_likelihoods"] == pytest.approx(wanted, abs=2e-3)
        right = entry["choices"]["label"].index(entry["answerKey"])
        hits.append(max(range(len(choices)), key=lambda i: wanted[i]) == right)
        by_length = [value / len(choice) for value, choice in zip(wanted, choices, strict=True)]
        normed.append(max(range(len(choices)), key=lambda i: by_length[i]) == right)
    values = {result["metric"]: result["value"] for result in ours["results"]}
    assert values["acc"] == pytest.approx(sum(hits) / len(hits))
    assert values["acc_norm"] == pytest.approx(sum(normed) / len(normed))


@pytest.mark.parametrize("languages", [("de", "en"), ("en", "zh")])
def test_bleu_is_sacrebleus(mobe, bundled, tmp_path, languages):
    """Of whatever the model writes, with references that have parts of it."""
    folder, _ = bundled
    source, target = languages
    sources = ["The old man, 70, said", "A ship of 3.5 m.", "In the morning"]
    references = [""] * len(sources)
    for turn in range(2):
        questions = tmp_path / f"questions{turn}.json"
        pairs = zip(sources, references, strict=True)
        questions.write_text(json.dumps([{"translation": {source: s, target: r}} for s, r in pairs]))
        log = tmp_path / f"log{turn}"
        run = ["eval", folder, "--tasks", "translation", "--data", questions, "--log", log]
        ours = mobe(*run, "--json")
        texts = [item["texts"][0] for item in items_of(log)]
        references = [text[: len(text) * 2 // 3] + " 好，the end." for text in texts]
    tokenizer = "zh" if target == "zh" else "13a"
    pairs = json.loads(questions.read_text())
    used = [pair["translation"][target] for pair in pairs]
    wanted = sacrebleu.corpus_bleu(texts, [used], tokenize=tokenizer).score
    assert wanted > 5
    assert ours["results"][0]["value"] == pytest.approx(wanted, abs=1e-9)


def test_a_log_is_gone_on_from(mobe, data, bundled, tmp_path):
    folder, _ = bundled
    log = tmp_path / "log"
    run = ["eval", folder, "--tasks", "arc_easy", "--data", data / "eval/arc.jsonl", "--log", log]
    mobe(*run, "--limit", 2)
    first = log.read_text()
    assert len(items_of(log)) == 2
    log.write_text(first[:-7])  # as a kill would leave it
    kept = first[: first[:-1].rindex("\n") + 1]
    assert mobe(*run, "--json") == mobe(*run[:-2], "--json")
    assert len(items_of(log)) == 6
    assert log.read_text().startswith(kept)
    before = log.read_bytes()
    refused = mobe(*run, "--shots", 1, "--shots-file", data / "eval/arc.jsonl", code=1)
    assert "the log of another run" in refused and len(refused.splitlines()) == 1
    assert log.read_bytes() == before


def test_the_original_is_compared_by_pairs(mobe, data, bundled, tmp_path):
    folder, _ = bundled
    small = tmp_path / "small"
    mobe("quantize", folder, small, "--format", "int4")
    run = ["eval", small, "--base", folder, "--tasks", "arc_easy,ptb"]
    run += ["--data", f"arc_easy={data / 'eval/arc.jsonl'}"]
    run += ["--data", f"ptb={folder / 'sample.txt'}", "--context", 64, "--limit", 6]
    ours = mobe(*run, "--json")["results"]
    alone = mobe("eval", folder, *run[4:], "--json")["results"]
    for result, base in zip(ours, alone, strict=True):
        assert result["base"] == base["value"]
        assert result["difference"] == pytest.approx(result["value"] - base["value"], abs=1e-12)
    perplexity = ours[-1]
    assert perplexity["metric"] == "perplexity"
    assert perplexity["difference_stderr"] < perplexity["value_stderr"]


def test_code_is_run_only_when_allowed(mobe, data, bundled):
    folder, _ = bundled
    run = ["eval", folder, "--tasks", "humaneval", "--data", data / "eval/humaneval.jsonl"]
    assert "--allow-code" in mobe(*run, code=1)
    assert mobe(*run, "--allow-code", "--json")["results"][0]["items"] == 2
