#!/usr/bin/env python3
"""Writes tests/data/text/goldens.json: the ids that Hugging Face's `tokenizers`
gives for texts that are easy to get wrong. Run with tokenizers 0.22 after a
change of the texts or variants below; src/text/golden_test.cc reads the file.

Each variant replaces top-level members of models/mini-qwen3-moe/tokenizer.json;
"model" is merged into the model, and "first_merges" keeps that many merges. The
variants named after published models have the steps of their tokenizer.json.
"""

import copy
import json
import random
from pathlib import Path

from tokenizers import Tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]
SPECIAL_IDS = {"<|endoftext|>": 8189, "<|im_start|>": 8190, "<|im_end|>": 8191}
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


def template(*pieces):
    def piece(name):
        if name == "$A":
            return {"Sequence": {"id": "A", "type_id": 0}}
        return {"SpecialToken": {"id": name, "type_id": 0}}

    names = [name for name in pieces if name != "$A"]
    single = [piece(name) for name in pieces]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            name: {"id": name, "ids": [SPECIAL_IDS[name]], "tokens": [name]}
            for name in names
        },
    }


def added(id, content, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False}
    return {**token, "rstrip": False, "normalized": False, "special": False, **flags}


# Letters that have a case, as of Unicode 11: DeepSeek-LLM and DeepSeek-V2 list them.
CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb"
    "\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)
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
BAILING = (
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
)
QWEN = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
CL100K = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
)
DECODER = {**BYTE_LEVEL, "add_prefix_space": True, "use_regex": True}
PLAIN_ENDS = {"decoder": DECODER, "post_processor": {**DECODER, "trim_offsets": False}}
BEHAVIORS = (
    "Isolated Removed MergedWithPrevious MergedWithNext Contiguous".split()
)

VARIANTS = {
    "as it is": {},
    "no normalizer, GPT-2's pattern": {
        "normalizer": None,
        "pre_tokenizer": {**BYTE_LEVEL, "use_regex": True, "add_prefix_space": True},
    },
    "DeepSeek-V2": {
        **PLAIN_ENDS,
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": sequence(
            split("[\r\n]"),
            split(f"\\s?[{CASED}]+"),
            split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
            split("\\s+$"),
            split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
            {"type": "Digits", "individual_digits": True},
        ),
    },
    "DeepSeek-V3": {
        **PLAIN_ENDS,
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": sequence(
            split("\\p{N}{1,3}"),
            split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
            split(DEEPSEEK_V3),
        ),
    },
    "Ling": {**PLAIN_ENDS, "normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(split(BAILING))},
    "Qwen3": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": sequence(split(QWEN)),
        "post_processor": {**BYTE_LEVEL, "trim_offsets": False},
        "decoder": {**BYTE_LEVEL, "trim_offsets": False},
    },
    "a template": {
        "post_processor": {
            "type": "Sequence",
            "processors": [
                {**BYTE_LEVEL, "trim_offsets": False},
                template("<|endoftext|>", "<|im_start|>", "$A", "<|im_end|>"),
            ],
        }
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
            added(8198, "<w>", rstrip=True),
            added(8199, "\u2003", lstrip=True),
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
    "\U0002ebf0wordx \u1c89wordx wordx\ua7cb wordx\U0001cc00",
    "a<w>\u2003b \u2003c<w> \u2003",
    "e\u0301x \u00e9x \u00e9 A\u030a \u00c5 \u212b   x",
    "abab, b.. b! aab .a.ab x.a.a",
    "0xFF ab-cd_ef.gh & - a&b c--d ~^$ |[]{}()\\",
    "def f(x):\n    return x**2  # comment\n\n\tif x: pass\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the quick brown fox the the thethe The THE",
]
# Where classes meet: white space, line ends, digits, marks, letters with and without
# case, Han, punctuation, symbols.
ATOMS = list(
    " \n\r\t'.!-_$<|>0123aAbBsStTlLdDeErRvVmMéÉßǅªʰ\u0301\u0e33\u093f٣½Ⅷ中文〇々\u3042ア한"
    "、。！\u3000\u00a0\u0085\u2028\u200d\u017f😀€"
) + ["  ", "\r\n", "'s", "'LL", " the", "123", "Hello", "\U00020000", "\u1e9b\u0323"]


def random_texts(count):
    source = random.Random(8)
    return ["".join(source.choices(ATOMS, k=source.randint(2, 24))) for _ in range(count)]


TEXTS += random_texts(30)


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
        around = tokenizer.encode("\n", add_special_tokens=True).ids
        variants.append(
            {"name": name, "patch": patch, "around": around, "cases": cases}
        )
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
