#!/usr/bin/env python3
"""Writes tests/data/text/goldens.json: the ids that Hugging Face's `tokenizers`
gives for texts that are easy to get wrong. Run with tokenizers 0.22 after a
change of the texts or variants below; src/text/golden_test.cc reads the file.

Each variant replaces top-level members of models/mini-qwen3-moe/tokenizer.json;
"model" is merged into the model, and "first_merges" keeps that many merges.
"""

import copy
import json
from pathlib import Path

from tokenizers import Tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {
        "type": "Split",
        "pattern": {kind: pattern},
        "behavior": behavior,
        "invert": invert,
    }


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": [*parts, BYTE_LEVEL]}


def added(id, content, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False}
    return {**token, "rstrip": False, "normalized": False, "special": False, **flags}


DEEPSEEK_V3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
    "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)
ENDING = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]"
LOWER = "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]"
KIMI_K2 = (
    f"[\\p{{Han}}]+|[^\\r\\n\\p{{L}}\\p{{N}}]?[{UPPER}]*[{LOWER}]+{ENDING}|"
    f"[^\\r\\n\\p{{L}}\\p{{N}}]?[{UPPER}]+[{LOWER}]*{ENDING}|\\p{{N}}{{1,3}}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
CL100K = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
)
BEHAVIORS = (
    "Isolated Removed MergedWithPrevious MergedWithNext Contiguous".split()
)

VARIANTS = {
    "as it is": {},
    "no normalizer, GPT-2's pattern": {
        "normalizer": None,
        "pre_tokenizer": {**BYTE_LEVEL, "use_regex": True, "add_prefix_space": True},
    },
    "DeepSeek-V3": {
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": sequence(
            split("\\p{N}{1,3}"),
            split("[一-龥\u0800-\u4e00가-\ud7ff]+"),
            split(DEEPSEEK_V3),
        ),
    },
    "Kimi-K2": {"pre_tokenizer": sequence(split(KIMI_K2))},
    "cl100k, ignore_merges": {
        "pre_tokenizer": sequence(split(CL100K)),
        "model": {"ignore_merges": True},
        "first_merges": 300,
    },
    "digits together": {
        "pre_tokenizer": sequence({"type": "Digits", "individual_digits": False})
    },
    "escapes": {
        "pre_tokenizer": sequence(
            split("^\\w+|\\W$|\\h\\H|[\\w\\-.]+|\\S\\s|[a-c&-]|(?<=a)b|\\v|\\p{^L}{2,3}?")
        )
    },
    "added tokens": {
        "added_tokens": [
            added(8189, "<|endoftext|>", special=True),
            added(8190, "<l>", lstrip=True),
            added(8191, "<r>", rstrip=True, special=True),
            added(8192, "<lr>", lstrip=True, rstrip=True),
            added(8193, "wordx", single_word=True),
            added(8194, "e\u0301x", normalized=True),
            added(8195, "<l><r>"),
            added(8196, "  ", normalized=True),
            added(8197, "\u212b", normalized=True),
            # Also the character of byte 0xc5, so a token of the vocabulary.
            added(129, "\u00c5", normalized=True, special=True),
        ]
    },
}
for behavior in BEHAVIORS:
    for invert in (False, True):
        VARIANTS[f"{behavior}, invert {invert}"] = {
            "pre_tokenizer": sequence(
                split("\\s|\\p{P}+|(?=b)", behavior, invert),
                {"type": "Digits", "individual_digits": True},
                split(".a", "MergedWithPrevious", kind="String"),
            )
        }

TEXTS = [
    "",
    " ",
    "Hello, world! It's 2024; we'll see what they'd DON'T.",
    "'S 'T 'RE 'VE 'M 'LL 'D '\u017f",
    "a  b   c    \n\n\n  d\t\te \r\n\r\n f\r g   ",
    "x\u000by\u0085z\u00a0q\u2028r\u3000s\u200bt\u001cu\u0000v",
    "1 12 123 1234 12345 \u0661\u0662\u0663\u0664 \u00bd\u00b2 \u2167",
    "e\u0301 a\u030a \u212b \u2126 \u1e9b\u0323 q\u0307\u0323 \u0f73\u0f71\u0f72",
    "\u0915\u093c \u09c7\u09be \u1112\u1161\u11ab \uac00\u11a8 \ufb01 \ufb06",
    "\u05d0\u0598\u05ae \u0344\u0323 \u0c15\u0c3c\u0334 \U00011935\U00011930",
    "naïve straße STRASSE İstanbul ﬁne ǅ ª º",
    "العربية مَرْحَبًا ١٢٣، עברית ไทย देवनागरी",
    "中文分词，測試。日本語のテスト。한국어 텍스트\U00020000",
    "😀👍🏽👨\u200d👩\u200d👧 🇩🇪 ❤\ufe0f ☎ ∑∫ ₿",
    # Added in Unicode 14, 15, 15.1 and 16.0.
    "\U0001e4d0 \u0898\u0334 \U0002ebf0中 \u1c89\ua7cd \U00010d40\U00010d50 \u0897 "
    "\U0001cc00 \U00016d6d",
    "<|im_start|>user\nHi <|im_end|>\n<|endoftext|><|im_end|",
    "a <l> b <r>  c \u3000<lr>\u0085\n d<l><r>  e<l>  <r>",
    "wordx swordx wordxs word\u0301x wordx\u0301 (wordx)  wordx",
    "e\u0301x \u00e9x \u00e9 A\u030a \u00c5 \u212b   x",
    "abab, b.. b! aab .a.ab x.a.a",
    "0xFF ab-cd_ef.gh & - a&b c--d ~^$ |[]{}()\\",
    "def f(x):\n    return x**2  # comment\n\n\tif x: pass\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the quick brown fox the the thethe The THE",
]


def main():
    base = json.loads(
        (REPOSITORY / "models/mini-qwen3-moe/tokenizer.json").read_text()
    )
    variants = []
    for name, patch in VARIANTS.items():
        file = copy.deepcopy(base)
        for key, value in patch.items():
            if key == "model":
                file["model"].update(value)
            elif key == "first_merges":
                del file["model"]["merges"][value:]
            else:
                file[key] = value
        tokenizer = Tokenizer.from_str(json.dumps(file))
        cases = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            plain = tokenizer.decode(ids, skip_special_tokens=True)
            cases.append([text, ids, decoded, plain])
        variants.append({"name": name, "patch": patch, "cases": cases})
    lines = ["["]
    for i, variant in enumerate(variants):
        cases = variant.pop("cases")
        head = json.dumps(variant)[:-1]
        lines.append(f'{head}, "cases": [')
        lines.append(",\n".join(json.dumps(case) for case in cases))
        lines.append("]}," if i + 1 < len(variants) else "]}")
    lines.append("]\n")
    (REPOSITORY / "tests/data/text/goldens.json").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
