#!/usr/bin/env python3
"""Collects the English text that scripts/train_model.py trains on.

    training_text.py FOLDER

downloads Debian packages into FOLDER (apt-get download), unpacks them there without
installing them, and writes FOLDER/text.jsonl: one document a line, {"source", "text"},
paragraphs on lines of their own. All of it is free: `SOURCES` says under which licence.
What is no prose (markup, tables, code, lists of references) is left out, and so is every
paragraph that was there before.
"""

import argparse
import glob
import gzip
import hashlib
import html
import html.parser
import json
import random
import re
import struct
import subprocess
import zlib
from pathlib import Path


def strings_of_r(path):
    """The strings of an R package's data: blocks that are compressed one by one, each after
    its size, in each of which a string is its flags, its length and its bytes."""
    data, lines = Path(path).read_bytes(), []
    while len(data) > 4:
        unpacker = zlib.decompressobj()
        block = unpacker.decompress(data[4:])
        data, at = unpacker.unused_data, 0
        while (at := block.find(b"\x00\x04\x00\x09", at)) >= 0:
            (size,) = struct.unpack(">i", block[at + 4 : at + 8])
            lines.append(block[at + 8 : at + 8 + size].decode("utf-8", "replace"))
            at += 8 + size
    return lines


def novels(root):
    """Lines of novels; an empty line ends a paragraph."""
    for path in glob.glob(f"{root}/usr/lib/R/site-library/janeaustenr/data/*.rdb"):
        paragraph = []
        for line in strings_of_r(path):
            if line.strip():
                paragraph.append(line.strip())
            elif paragraph:
                yield " ".join(paragraph)
                paragraph = []


def plain(path):
    """Paragraphs of a plain text file."""
    text = Path(path).read_text("utf-8", "replace").replace("\r", "")
    for block in re.split(r"\n\s*\n", text):
        yield " ".join(block.split())


def go_books(root):
    for name in ("Mark.Twain-Tom.Sawyer.txt", "Isaac.Newton-Opticks.txt"):
        for path in glob.glob(f"{root}/usr/share/**/{name}", recursive=True):
            yield from plain(path)


def sword(root):
    """A SWORD module: zlib blocks, where they are in a file of their own."""
    for index in sorted(glob.glob(f"{root}/usr/share/sword/modules/**/*.[bc]zs", recursive=True)):
        data, places = Path(index[:-1] + "z").read_bytes(), Path(index).read_bytes()
        for at in range(0, len(places), 12):
            start, size, _ = struct.unpack("<III", places[at : at + 12])
            text = zlib.decompress(data[start : start + size]).decode("utf-8", "replace")
            text = re.sub(
                r"<table>.*?</table>|<title.*?</title>|<note.*?</note>", "\n", text, flags=re.S
            )
            text = re.sub(r"<(div|chapter|/?p|lb|/?l)\b[^>]*>", "\n", text)
            text = html.unescape(re.sub(r"<[^>]*>", "", text)).replace("\r", " ")
            text = re.sub(r"#\(([^)]*)\)|ver\. *(?=[,.;])", r"\1", text)
            for paragraph in text.split("\n"):
                yield " ".join(paragraph.split())


def bible(root):
    """As sword, in paragraphs of a few verses."""
    held = ""
    for paragraph in sword(root):
        held = f"{held} {paragraph}".strip()
        if len(held) > 600:
            yield held
            held = ""


def dictionary(root):
    """Entries of a dictd dictionary, each one paragraph, without pronunciation and sources."""
    for path in glob.glob(f"{root}/usr/share/dictd/*.dict.dz"):
        text = gzip.open(path).read().decode("utf-8", "replace")
        for entry in re.split(r"\n(?=\S)", text):
            head, _, body = entry.partition("\n")
            word = re.split(r"[\\,(\[]| {2}", head)[0].strip(" :")
            text = re.sub(r"\\[^\\]*\\", " ", head + "\n" + body) if "gcide" in path else body
            if "gcide" in path:
                text = text[len(word) :]
                text = re.sub(r"^\W*(?:(?:[a-z]{1,4}\.\s*)+(?:&|or)?\s*)*", "", text.strip())
            text = re.sub(r"\[[^\]]*\]|--\s*[A-Z][\w.]*(?: [A-Z(][\w.)]*)*", " ", text)
            text = re.sub(r"[{}]|(?<=\s)(?:\d+|\([a-z]\)|[a-z]{1,2})\.\s+(?=[A-Z])", "", text)
            text = " ".join(text.split())
            if word and len(text) > 30 and word[0].isalpha():
                yield f"{word}: {text}"


def wordnet(root):
    """Glosses: word, what it means, examples."""
    for path in sorted(glob.glob(f"{root}/usr/share/wordnet/data.*")):
        for line in open(path, encoding="utf-8"):
            if line.startswith(" ") or " | " not in line:
                continue
            words, gloss = line.split(" | ", 1)
            word = re.sub(r"\(.*\)", "", words.split()[4].replace("_", " "))
            gloss = gloss.strip().replace('; "', '. "').rstrip(";. ")
            if len(gloss) > 45:
                yield f"{word[0].upper()}{word[1:]}: {gloss}."


class Paragraphs(html.parser.HTMLParser):
    """Texts of <p> that stand in no table, code or navigation."""

    SKIPPED = {"table", "pre", "nav", "script", "style", "header", "footer", "form"}

    def __init__(self):
        super().__init__()
        self.skipped, self.inside, self.held, self.found = 0, False, [], []

    def close_paragraph(self):
        if self.held:
            self.found.append(" ".join("".join(self.held).split()))
        self.held, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag in self.SKIPPED:
            self.skipped += 1
        elif tag == "p" or ("class", "para") in attrs:
            self.close_paragraph()
            self.inside = True
        elif tag == "br":
            self.held.append(" ")

    def handle_endtag(self, tag):
        if tag in self.SKIPPED:
            self.skipped = max(0, self.skipped - 1)
        elif tag in ("p", "div", "li", "body"):
            self.close_paragraph()

    def handle_data(self, data):
        if self.inside and not self.skipped:
            self.held.append(data)


def web_pages(*patterns):
    def read(root):
        for pattern in patterns:
            for path in sorted(glob.glob(f"{root}/{pattern}", recursive=True)):
                opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")
                parser = Paragraphs()
                parser.feed(opened.read().decode("utf-8", "replace"))
                parser.close_paragraph()
                yield from parser.found

    return read


def mallard(root):
    """GNOME's help pages, whose <p> is as HTML's."""
    return web_pages("usr/share/help/C/**/*.page")(root)


def pod(root):
    """Paragraphs of Perl's documentation; formatting codes go, code (indented) too."""
    for path in sorted(glob.glob(f"{root}/usr/share/perl/**/*.pod", recursive=True)):
        if "delta" in path:
            continue
        for block in re.split(r"\n\s*\n", Path(path).read_text("utf-8", "replace")):
            if block[:1] in (" ", "\t", "="):
                continue
            while block != (block := re.sub(r"[A-Z]<+ ?([^<>]*?)(?:\|[^<>]*)? ?>+", r"\1", block)):
                pass
            yield " ".join(block.split())


def wesnoth(root):
    """What is told and said in campaigns: translatable strings."""
    for path in sorted(glob.glob(f"{root}/usr/share/games/wesnoth/**/*.cfg", recursive=True)):
        text = Path(path).read_text("utf-8", "replace")
        for said in re.findall(r'(?:message|story|description) *= *_ *"((?:[^"]|"")*)"', text):
            yield " ".join(re.sub(r"<[^>]*>", "", said.replace('""', '"')).split())


def endless_sky(root):
    for path in sorted(
        glob.glob(f"{root}/usr/share/games/endless-sky/data/**/*.txt", recursive=True)
    ):
        for said in re.findall(r"`([^`]{40,})`", Path(path).read_text("utf-8", "replace")):
            yield " ".join(said.split())


def cataclysm(root):
    """Descriptions, what is said and notes that are found; a tag in <> is a name that is
    filled in later."""

    def walk(value, key=""):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from walk(inner, name)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner, key)
        elif isinstance(value, str) and key in (
            "description",
            "text",
            "dynamic_line",
            "str",
            "yes",
            "no",
        ):
            yield value

    for path in sorted(
        glob.glob(f"{root}/usr/share/games/cataclysm-dda/**/*.json", recursive=True)
    ):
        try:
            for text in walk(json.loads(Path(path).read_text("utf-8"))):
                if "<" not in text:
                    yield " ".join(re.sub(r"\\n", " ", text).split())
        except ValueError:
            pass


def crawl(root):
    """Descriptions: the name, an empty line, what it is, %%%%."""
    for path in sorted(glob.glob(f"{root}/usr/share/crawl/**/descript/*.txt", recursive=True)):
        for entry in re.split(r"%%%%", Path(path).read_text("utf-8", "replace")):
            for block in re.split(r"\n\s*\n", entry)[1:]:
                if "{{" not in block:
                    yield " ".join(block.split())


# Package, licence, how it is read, at most so many bytes of it.
SOURCES = [
    ("r-cran-janeaustenr", "public domain (Jane Austen's novels)", novels, 6e6),
    ("golang-1.19-src", "public domain (Tom Sawyer; Newton's Opticks)", go_books, 2e6),
    ("sword-text-web", "public domain (World English Bible)", bible, 4e6),
    ("sword-comm-tdavid", "public domain (Spurgeon, Treasury of David)", sword, 4e6),
    ("sword-comm-mhcc", "public domain (Henry's Concise Commentary)", sword, 2e6),
    ("dict-gcide", "GPL-3+ (Webster 1913 and additions)", dictionary, 5e6),
    ("wordnet-base", "WordNet licence (free)", wordnet, 4e6),
    ("dict-devil", "public domain (Bierce, The Devil's Dictionary)", dictionary, 1e6),
    ("dict-jargon", "public domain (The Jargon File)", dictionary, 2e6),
    (
        "anarchism",
        "GPL-2 or later (An Anarchist FAQ)",
        web_pages("usr/share/doc/anarchism/**/*.html"),
        5e6,
    ),
    (
        "debian-handbook",
        "GPL-2+ or CC BY-SA 3.0",
        web_pages("usr/share/doc/debian-handbook/html/en-US/*.html"),
        2e6,
    ),
    ("debian-reference-en", "GPL-2+", web_pages("usr/share/debian-reference/*.en.html"), 1e6),
    ("debian-history", "GPL-2+", web_pages("usr/share/doc/debian-history/**/*.en.html"), 1e6),
    ("developers-reference", "GPL-2", web_pages("usr/share/developers-reference/*.html"), 1e6),
    ("gnome-user-docs", "CC BY-SA 3.0", mallard, 2e6),
    ("libreoffice-help-en-us", "MPL-2.0", web_pages("usr/**/*.html"), 3e6),
    (
        "python3.11-doc",
        "PSF licence",
        web_pages(
            *(
                f"usr/share/doc/python3.11/html/{d}/*.html"
                for d in ("tutorial", "howto", "faq", "whatsnew")
            )
        ),
        2e6,
    ),
    ("perl-doc", "GPL-1+ or Artistic", pod, 3e6),
    ("crawl-common", "GPL-2+", crawl, 1e6),
    ("endless-sky-data", "GPL-3+", endless_sky, 4e6),
    ("cataclysm-dda-data", "CC BY-SA 3.0", cataclysm, 4e6),
] + [
    (f"wesnoth-1.16-{part}", "GPL-2+", wesnoth, 1e6)
    for part in "did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs".split()
]

PLAIN = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "–": "-",
        "—": "--",
        "…": "...",
        "\u00a0": " ",
        "\u00ad": "",
        "¶": "",
    }
)


def clean(paragraph):
    """The paragraph in plain punctuation, or None where it is no English prose."""
    text = paragraph.translate(PLAIN).replace("_", "")
    text = re.sub(r"\s*\[\d+\]|https?://\S+", "", text)
    text = re.sub(r" +([,.;:!?])(?=\s|$)", r"\1", text).strip()
    if not 40 <= len(text) <= 6000 or not re.search(r"[.!?\"')]$", text):
        return None
    letters = sum(c.isalpha() or c in " ,.'" for c in text)
    if letters < 0.93 * len(text) or sum(ord(c) > 126 for c in text) > 0.01 * len(text):
        return None
    if re.search(r"[<>{}\\|=~^]|::|\$\w|\(\)|�", text):
        return None
    words = re.findall(r"[a-z]+", text.lower())
    common = sum(w in COMMON for w in words)
    return text if words and common >= 0.12 * len(words) else None


COMMON = set(
    "the of and to a in is that it for as was with be by on not he his her she they you i or "
    "are this from at which an have had but all one who we if when there so what their its no "
    "my me your out up do any".split()
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    for name in ("deb", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    seen, documents = set(), []
    for package, licence, read, limit in SOURCES:
        root = folder / "root" / package
        if not root.is_dir():
            if not list((folder / "deb").glob(f"{package}_*.deb")):
                subprocess.run(
                    ["apt-get", "download", "-qq", package], cwd=folder / "deb", check=True
                )
            (deb,) = (folder / "deb").glob(f"{package}_*.deb")
            subprocess.run(["dpkg", "-x", deb, root], check=True)
        held, size, total = [], 0, 0
        before = len(documents)
        for paragraph in read(str(root)):
            text = clean(paragraph)
            if text is None:
                continue
            key = hashlib.sha1(re.sub(r"\W+", "", text.lower()).encode()).digest()[:8]
            if key in seen:
                continue
            seen.add(key)
            held.append(text)
            size += len(text)
            # Pieces of some pages, so that a part can be held out and order mixed.
            if size > 20000:
                documents.append({"source": package, "text": "\n".join(held)})
                total, held, size = total + size, [], 0
        if held:
            documents.append({"source": package, "text": "\n".join(held)})
            total += size
        # What is over the limit is left out evenly, not from the end.
        if total > limit:
            kept = random.Random(1).sample(
                documents[before:], int((len(documents) - before) * limit / total)
            )
            documents[before:] = kept
        print(
            f"{package}\t{licence}\t{sum(len(d['text']) for d in documents[before:])}", flush=True
        )
    with open(folder / "text.jsonl", "w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
    print(f"total\t\t{sum(len(d['text']) for d in documents)}")


if __name__ == "__main__":
    main()
