"""The bundled model that writes readable English."""

import json
import math

import pytest
from tokenizers import Tokenizer


def test_reads_prose_better_than_the_fixture(mobe, models):
    text = models / "mini-qwen3-moe/sample.txt"
    bits = {}
    for name in ("mini-qwen3-moe", "english-qwen3-moe"):
        found = mobe("perplexity", models / name, text, "--context", 512, "--json", "--quiet")
        bits[name] = found["tokens"] * math.log2(found["ppl"]) / text.stat().st_size
    assert bits["english-qwen3-moe"] < 0.9 * bits["mini-qwen3-moe"]


@pytest.mark.parametrize("prompt", ["It was a dark night, and", "The king of the country"])
def test_writes_words(mobe, models, prompt):
    options = ["--max-tokens", 120, "--temperature", 0.7, "--seed", 1, "--json", "--quiet"]
    text = mobe("generate", models / "english-qwen3-moe", "--prompt", prompt, *options)["text"]
    assert "<" not in text and "\ufffd" not in text
    words = text.split()
    assert len(words) > 40
    assert sum(word.strip(".,;:!?\"'()-").isalpha() for word in words) > 0.85 * len(words)


def test_has_a_chat_template(mobe, models, tmp_path):
    """Of a model that was taught no conversation it gives form, not sense."""
    messages = tmp_path / "messages.json"
    messages.write_text(json.dumps([{"role": "user", "content": "Who was the king?"}]))
    folder = models / "english-qwen3-moe"
    prompt = mobe("chat", folder, "--messages", messages, "--prompt-only")
    assert "<|im_start|>user\nWho was the king?<|im_end|>\n<|im_start|>assistant" in prompt


def test_texts_survive_the_tokenizer(models):
    tokenizer = Tokenizer.from_file(str(models / "english-qwen3-moe/tokenizer.json"))
    for text in ("Grüße, naïve café \U0001f600\n\tand tabs", "  spaces  ", "12345"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
