#!/usr/bin/env python3
"""Writes tests/data/text/kimi, a folder as Kimi-K2's with a small vocabulary, and
goldens.json in it: the ids that tiktoken gives for the texts of
make_tokenizer_goldens.py. Run with tiktoken 0.14 after a change;
src/text/kimi_test.cc reads the folder.

A golden is [text, ids], or [[[part, times], ...], number of ids, last ids] for a
text too long to be written out.
"""

import base64
import json
import re

import tiktoken
from make_tokenizer_goldens import KIMI_K2, REPOSITORY, TEXTS

FOLDER = REPOSITORY / "tests/data/text/kimi"
NAMES = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>"]
LAST_NAMES = ["[UNK]", "[PAD]"]
# In no way the result of merges: taken only as whole pieces.
WHOLE = ["xyzzy", " quokka", "分词", "\U0001f44d\U0001f3fd"]
SPECIAL_TEXTS = [
    "[BOS]<|im_user|>Hi<|im_end|>",
    "<|reserved_token_1000|>< |im_end|> <|reserved_token_999|>",
    "xyzzy xyzzyxyzzy quokka quokkas 分词分词 👍🏽",
    "[PAD]]PAD] [[EOS]",
]
LONG_TEXTS = [
    [["a", 25000], [" b", 1]],
    [["a", 25001], [" b", 1]],
    [["x", 1], [" ", 25001], ["y", 1]],
    [["\x1c", 12501], [" ", 12500], ["z", 1]],
    [["中", 25000], ["\u0301", 3]],
    [["word ", 80000], ["word", 1]],
    [["wor", 1], [" word", 100000]],
    [["é", 24999], ["[BOS]", 2]],
]


def byte_of():
    """The bytes that the characters of the byte-level alphabet stand for."""
    plain = [b for b in range(256) if chr(b).isprintable() and b != 32 and b != 0xAD]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {
        chr(0x100 + i): b for i, b in enumerate(others)
    }


def vocabulary():
    """The bytes and first merges of the bundled tokenizer, and WHOLE."""
    model = json.loads((REPOSITORY / "models/mini-qwen3-moe/tokenizer.json").read_text())
    to_byte = byte_of()
    tokens = [bytes([b]) for b in range(256)]
    for merge in model["model"]["merges"][:600]:
        text = "".join(merge) if isinstance(merge, list) else merge.replace(" ", "")
        tokens.append(bytes(to_byte[c] for c in text))
    tokens += [text.encode() for text in WHOLE]
    return {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}


def chunks(text):
    """What tokenization_kimi.py hands to tiktoken."""
    for block in range(0, len(text), 400_000):
        part = text[block : block + 400_000]
        begin, run = 0, 0
        for i, c in enumerate(part):
            same = run > 0 and c.isspace() == part[i - 1].isspace()
            run = run + 1 if same else 1
            if run > 25_000:
                yield part[begin:i]
                begin, run = i, 1
        yield part[begin:]


def main():
    FOLDER.mkdir(exist_ok=True)
    ranks = vocabulary()
    lines = [f"{base64.b64encode(t).decode()} {r}\n" for t, r in ranks.items()]
    (FOLDER / "tiktoken.model").write_text("".join(lines))

    first = len(ranks)
    named = {first + i: name for i, name in enumerate(NAMES)}
    named |= {first + 254 + i: name for i, name in enumerate(LAST_NAMES)}
    config = {
        "added_tokens_decoder": {
            str(id): {
                "content": name,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for id, name in named.items()
        },
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "tokenizer_class": "TikTokenTokenizer",
    }
    text = json.dumps(config, indent=1) + "\n"
    (FOLDER / "tokenizer_config.json").write_text(text)

    special = {
        named.get(id, f"<|reserved_token_{id}|>"): id
        for id in range(first, first + 256)
    }
    encoding = tiktoken.Encoding(
        "kimi", pat_str=KIMI_K2, mergeable_ranks=ranks, special_tokens=special
    )

    # Called as a tokenizer of transformers, Kimi's first looks for the named ones.
    names = re.compile(f"({'|'.join(map(re.escape, named.values()))})")

    def encode(text):
        ids = []
        for part in filter(None, names.split(text)):
            for chunk in chunks(part):
                ids += encoding.encode(chunk, allowed_special="all")
        return ids

    goldens = [[text, encode(text)] for text in TEXTS + SPECIAL_TEXTS]
    for parts in LONG_TEXTS:
        ids = encode("".join(part * times for part, times in parts))
        goldens.append([parts, len(ids), ids[-8:]])
    rows = ",\n".join(json.dumps(golden) for golden in goldens)
    (FOLDER / "goldens.json").write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    main()
