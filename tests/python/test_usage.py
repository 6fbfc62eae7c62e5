"""What people type by habit: help, mistyped words, other names, too much."""

import re

import pytest


def test_help_of_a_command(mobe):
    assert mobe("help") == mobe("--help") == mobe("-h")
    assert mobe("help", "compress") == mobe("compress", "--help")
    assert "mobe help COMMAND" in mobe("help")
    assert mobe("-V") == mobe("--version")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("compres m o", "compres: no command; did you mean compress? (see mobe help)"),
        ("help comprss", "comprss: no command; did you mean compress? (see mobe help)"),
        ("frobnicate", "frobnicate: no command (see mobe help)"),
        ("--verson", "--verson: no option of mobe; did you mean --version?"),
        (
            "compress --ratoi 0.5 m o",
            "--ratoi: no option of compress; did you mean --ratio? (see mobe help compress)",
        ),
        ("compress m o --ratoi=0.5", "--ratoi: no option of compress; did you mean --ratio?"),
        ("compress m o -ratio 0.5", "-ratio: no option of compress; did you mean --ratio?"),
        # Told before what is missing for it.
        ("generate --promt x", "--promt: no option of generate; did you mean --prompt?"),
        ("--threads 3 verify m", "--threads: comes after the command: mobe verify --threads"),
        (
            ["generate", "m", "The castle was"],
            'generate: "The castle was" is one argument too many; a prompt goes with --prompt',
        ),
        ("chat m Hello", "messages are typed or piped, or in a file for --messages"),
        ("quantize m o int8", "the format goes with --format"),
        ("compress m", "out is missing: new folder for the result (see mobe help compress)"),
        ("quantize m o", "expected one of --format, --bytes, --bpw"),
        ("generate m", "expected one of --prompt, --prompt-file, --prompts-file"),
        ("generate m --prompt", "--prompt: expected one value"),
        ("generate m --prompt x --dtype f16", "--dtype f16: expected auto, float32, bfloat16"),
        ("compress m o --split x", "--split x: expected even, auto"),
        ("compress m o --ratio 1", "--ratio 1: expected a number above 0 and below 1"),
        ("compress m o --ratio 0", "--ratio 0: expected a number above 0 and below 1"),
        ("serve m --port 99999", "--port 99999: expected a whole number from 0 to 65,535"),
    ],
)
def test_one_line_says_what_to_write(arguments, message, mobe):
    arguments = arguments.split() if isinstance(arguments, str) else arguments
    said = mobe(*arguments, code=2)
    assert said.startswith("mobe: ") and said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    "option, name",
    [
        ("--dtype", "bf16"),
        ("--dtype", "bfloat16"),
        ("--dtype", "fp32"),
        ("--dtype", "f32"),
        ("--dtype", "float32"),
        ("--cache", "bfloat16"),
        ("--cache", "fp32"),
        ("--built-format", "float32"),
    ],
)
def test_names_of_numbers(option, name, mobe, data):
    # Parsed: what it fails on is the model, which is not there.
    said = mobe("generate", "nowhere", "--prompt", "x", option, name, code=1)
    assert "nowhere" in said
    if option == "--dtype":
        assert "nowhere" in mobe("bench", "nowhere", option, f"auto,{name}", code=1)


def test_numbers_are_refused_in_words(mobe):
    """Every option of a number, of every command."""
    commands = re.findall(r"^  ([a-z]+) ", mobe("help").split("Subcommands:")[1], re.M)
    assert len(commands) >= 17
    seen = set()
    for command in commands:
        text = mobe("help", command)
        assert not re.search(r"\b(INT|FLOAT|UINT) in ", text)
        for option in re.findall(r"^ +(?:-\w,)?(--[a-z-]+) (?:INT|UINT|FLOAT)", text, re.M):
            if option in seen:
                continue
            seen.add(option)
            said = mobe(command, option, "x", code=2)
            assert re.search(rf"{option} x: expected (a|an|the) ", said), said
            assert said.count("\n") == 1
