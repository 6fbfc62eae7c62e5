"""What reaches a terminal: progress in its width, and no text that it would obey."""

import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
import unicodedata

import pytest
from safetensors.torch import load_file, save_file

COMPRESS = ["--bases", "4", "--passes", "30"]
# Erases the line that the bar is drawn over.
ERASE = "\r\x1b[K"


@pytest.fixture
def model(data):
    return data / "models/qwen3_moe"


@pytest.fixture
def in_terminal(mobe_program):
    """Runs `mobe args...` in a terminal. Gives all that came out of it."""

    def run(*args, columns=80, term="xterm", code=0):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        environment = dict(os.environ, TERM=term)
        if term is None:
            del environment["TERM"]
        child = subprocess.Popen(
            [str(part) for part in (mobe_program, *args)],
            stdin=slave, stdout=slave, stderr=slave, env=environment,
        )
        os.close(slave)
        output = b""
        while True:
            try:
                output += os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
                break
        os.close(master)
        assert child.wait() == code, output
        return output.decode()

    return run


def bars_of(output):
    """What was drawn over, one after the other."""
    return [
        re.split(r"[\r\n]", part)[0]
        for part in output.split(ERASE)[1:]
        if re.search(r"^.*\d%", part)
    ]


@pytest.mark.parametrize("columns", [3, 20, 40, 80, 0])
def test_the_bar_fits(columns, in_terminal, model, tmp_path):
    output = in_terminal("compress", model, tmp_path / "o", *COMPRESS, columns=columns)
    bars = bars_of(output)
    assert bool(bars) == (columns != 3)
    for bar in bars:
        assert len(bar) < (columns or 80), bar
        assert ("ETA" in bar) and ("[" in bar) == (columns not in (3, 20))
    if columns >= 20:  # what came out of each matrix fits, too
        lines = re.findall(r"layer {3}\d (?:gate|up).*?\(\d+\)", output, re.S)
        assert len(lines) > 1
        for line in "\r\n".join(lines).split("\r\n"):
            assert len(line) <= max(columns, 26), line
    # Nothing of it is left.
    assert output.count(ERASE) > len(bars)
    assert "mean scaled MSE" in " ".join(output.split(ERASE)[-1].split())


def test_narrow(in_terminal, mobe, models, tmp_path):
    """What people read is broken between words, and a table becomes a list."""
    model, small = models / "mini-qwen3-moe", tmp_path / "small"
    mobe("compress", model, small, "--bases", 8, "--budget", 1, "--format", "int4")
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a small house in the woods. " * 8)
    for command in (
        ("compress", model, tmp_path / "o", "--dry-run"),
        ("inspect", small),
        ("verify", small, "--against", model),
        ("doctor", small),
        ("table", model, small, "--text", text, "--speed-tokens", 4),
        ("table", model, small, "--text", text, "--speed-tokens", 4, "--output", "markdown"),
    ):
        output = in_terminal(*command, columns=40).replace("\r\n", "\n").split(ERASE)[-1]
        lines = output.splitlines()
        wide = [line for line in lines if len(line) > 40 and " " in line.strip()]
        assert bool(wide) == ("markdown" in command), (command, wide)
        # The same words as in a file.
        if command[0] in ("inspect", "verify"):
            assert output.split() == mobe(*command).split()
    listed = in_terminal("doctor", small, columns=40)
    assert re.search(r"^fused\r\n  memory +[\d.]+ MB\r\n  fits +yes\r\n", listed, re.M)
    assert re.search(r"^experts +memory  fits +a token", mobe("doctor", small), re.M)


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_plain_lines_where_nothing_can_be_drawn(term, in_terminal, model, tmp_path):
    output = in_terminal("compress", model, tmp_path / "o", *COMPRESS, term=term)
    assert "\x1b" not in output and "\r" not in output.replace("\r\n", "")
    assert "layer   1 gate" in output and "%" not in output.split("layer   1 gate")[1]


def test_quiet(in_terminal, model, tmp_path):
    output = in_terminal("compress", model, tmp_path / "o", *COMPRESS, "--quiet")
    assert "\x1b" not in output and "layer   1 gate" not in output
    assert "mean scaled MSE" in output


def test_the_summary_follows_the_progress(mobe_program, model, tmp_path):
    """In one pipe, as with `2>&1 | tee log`."""
    command = [mobe_program, "compress", model, tmp_path / "o", *COMPRESS]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    output = done.stdout.decode()
    assert "\x1b" not in output and "\r" not in output
    assert (
        output.index("bytes:")
        < output.index("layer   1 gate")
        < output.index("mean scaled MSE")
        < output.index("worst expert: relative error")
    )


HOSTILE = "x\x1b]0;owned\x07\x1b[2J\r\nok: 1\x7f\x9b31m\u202egnp.\u2028"


def assert_harmless(output):
    """No character of it moves, recolours or reorders."""
    for character in output.replace("\r\n", "\n"):
        assert character == "\n" or unicodedata.category(character) not in (
            "Cc", "Zl", "Zp"
        ), (character, output)
        assert unicodedata.bidirectional(character) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"
        ), (character, output)


def sealed(recipe):
    """As src/base/sealed_json.h has it; anybody can."""
    del recipe["checksum"]
    text = json.dumps(recipe).removesuffix("}") + ","
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return f'{text}\n"checksum": "{checksum}"\n}}\n'


def test_hostile_names(mobe, in_terminal, model, tmp_path):
    out = tmp_path / "out"
    mobe("compress", model, out, *COMPRESS)
    recipe = json.loads((out / "recipe.json").read_text())
    recipe["source"]["name"] = recipe["mobe"] = HOSTILE
    (out / "recipe.json").write_text(sealed(recipe))
    for arguments in (["inspect", out], ["inspect", out, "--json"]):
        output = in_terminal(*arguments)
        assert_harmless(output)
        assert "\\u001b]0;owned" in output and "\\u202egnp." in output
    assert "\nok: 1" not in output
    info = mobe("inspect", out, "--json")
    assert info["recipe"]["source"] == HOSTILE

    copy = tmp_path / f"copy{HOSTILE.replace('/', '')}"
    shutil.copytree(out, copy)
    weights = next(copy.glob("*.safetensors"))
    tensors = load_file(weights)
    tensors[HOSTILE] = next(iter(tensors.values())).clone()
    save_file(tensors, weights, {"format": "pt"})
    for arguments in (["verify", copy, "--against", model],
                      ["verify", copy, "--against", model, "--json"],
                      ["inspect", copy], ["inspect", tmp_path / HOSTILE]):
        output = in_terminal(*arguments, code=1)
        assert_harmless(output)
        assert "\\u001b]0;owned" in output, output
        assert "\nok: 1" not in output


OPTIONS = [
    ("compress {model} {out} --ratio 0", "a number above 0 and below 1"),
    ("compress {model} {out} --ratio 1", "a number above 0 and below 1"),
    ("compress {model} {out} --ratio nan", "a number above 0 and below 1"),
    ("compress {model} {out} --bases 0", "a whole number, 1 or more"),
    ("compress {model} {out} --rank 0", "a whole number, 1 or more"),
    ("compress {model} {out} --basis-rank 0", "a whole number, 1 or more"),
    ("compress {model} {out} --alphas 0", "a whole number, 1 or more"),
    ("compress {model} {out} --groups 0", "a whole number, 1 or more"),
    ("compress {model} {out} --seed=-1", "a whole number, 0 or more"),
    ("compress {model} {out} --shard-gb nan", "a number from 0.000001 to 1,000,000"),
    ("compress {model} {out} --budget=-1", "a number of passes (500) or a time"),
    ("compress {model} {out} --passes 0", "a number of passes (500)"),
    ("compress {model} {out} --time 0s", "a time (90s, 10m, 2h)"),
    ("compress {model} {out} --layers x", "a layer (3) or a range (0-5)"),
    ("compress {model} {out} --layers ''", "a layer (3) or a range (0-5)"),
    ("compress {model} {out} --start ''", "a value, found an empty one"),
    ("compress {model} {out} --calibrate ''", "a value, found an empty one"),
    ("compress {model} '' --bases 4", "a value, found an empty one"),
    ("compress {model} {out} --calibrate random --calibrate-tokens 0",
     "a whole number from 1 to 1,073,741,824"),
    ("compress {model} {out} --threads 0", "a whole number from 1 to "),
    ("reconstruct {model} {out} --shard-gb 0", "a number from 0.000001 to 1,000,000"),
    ("report {model} --output ''", "a value, found an empty one"),
    ("calibrate {model} random {out} --context 0", "a whole number from 1 to"),
    ("perplexity {model} {out} --context 2", "a whole number, 3 or more"),
    ("perplexity {model} {out} --max-tokens 0", "a whole number, 1 or more"),
    ("chat {model} --context 0", "a whole number, 1 or more"),
    ("generate {model} --prompt x --max-tokens 0", "a whole number, 1 or more"),
    ("generate {model} --prompt x --temperature nan", "a number, 0 or more"),
    ("generate {model} --prompt x --temperature inf", "a number, 0 or more"),
    ("generate {model} --prompt x --top-k=-1", "a whole number, 0 or more"),
    ("generate {model} --prompt x --top-p 0", "a number above 0 and at most 1"),
    ("generate {model} --prompt x --min-p 2", "a number from 0 to 1"),
    ("generate {model} --prompt x --repetition-penalty 0", "a number above 0"),
    ("generate {model} --prompt x --stop ''", "a value, found an empty one"),
]


@pytest.mark.parametrize("command, expected", OPTIONS)
def test_options_are_checked_first(command, expected, mobe, model, tmp_path):
    words = command.format(model=model, out=tmp_path / "out").split()
    error = mobe(*("" if word == "''" else word for word in words), code=2)
    assert f": expected {expected}" in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_fits(columns, in_terminal, mobe):
    commands = re.findall(r"^  ([a-z]+) ", mobe("help").split("Subcommands:")[1], re.MULTILINE)
    assert "compress" in commands and "doctor" in commands
    for command in ["help", *commands]:
        lines = in_terminal(command, "--help", columns=columns).splitlines()
        # A word that is longer stays whole.
        long = [line for line in lines if len(line) > columns and len(line.split()) > 1]
        assert not long, command
