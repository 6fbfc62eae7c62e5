"""The manual page and the completions: of the shells, as they take them, and complete."""

import re
import shutil
import subprocess
from functools import partial

import pytest

SHELLS = ("bash", "zsh", "fish")


def run(*command, stdin=""):
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def commands(mobe):
    """All that --help names: {command: options}, and of the program itself ''."""
    names = re.findall(r"^  ([a-z]+) ", mobe("--help").split("Subcommands:")[1], re.M)
    assert "compress" in names
    return {
        name: re.findall(r"^ {2,4}(?:-\w,)?(--[a-z0-9-]+)", mobe(*name.split(), "--help"), re.M)
        for name in ["", *names]
    }


@pytest.fixture(scope="module")
def manual(mobe):
    return mobe("manual")


@pytest.fixture(scope="module")
def scripts(mobe):
    return {shell: mobe("completions", shell) for shell in SHELLS}


@pytest.fixture
def program_path(scripts):
    """The path of a program; the test is skipped where there is none."""

    def find(name):
        return shutil.which(name) or pytest.skip(f"no {name}")

    return find


def test_manual_has_all_commands_and_options(commands, manual):
    for command, options in commands.items():
        _, _, section = manual.partition(f".SS mobe {command}" if command else ".SH OPTIONS")
        section = re.split(r"^\.S[SH] ", section, flags=re.M)[0].replace("\\-", "-")
        for option in options:
            assert re.search(rf"^\.B .*{option}\b", section, re.M), (command, option)


def test_manual_is_good_troff(manual, program_path):
    mandoc = program_path("mandoc")
    # A page that the program prints has no date.
    lint = subprocess.run([mandoc, "-T", "lint", "-W", "warning"], input=manual,
                          capture_output=True, text=True)
    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []
    text = re.sub(r".\x08", "", run(mandoc, "-T", "utf8", stdin=manual))
    text = " ".join(text.split())
    assert "--memory TEXT memory that the program may take" in text
    assert "experts that don't fit are read from the disk" in text


def test_manual_names_values_and_conflicts(manual):
    manual = manual.replace("\\-", "-")
    assert "\n[one of silu, tanh, identity]\n" in manual
    assert "\n[not with --budget, --time]\n" in manual
    assert "\n[default 65536; needs --calibrate]\n" in manual
    assert "\n[one of int8, int6, int5, int4, int3, int2]\n" in manual


def test_completions_have_all_commands_and_options(commands, scripts):
    lists = {
        "bash": lambda c: re.search(rf"^  \['{c or 'mobe'}'\]='(.*)'", scripts["bash"], re.M)[1],
        "zsh": lambda c: re.search(
            rf"^    {c or 'mobe'}\)\n(.*?);;", scripts["zsh"], re.M | re.S
        )[1],
        "fish": lambda c: "\n".join(
            line.replace(" -l ", " --")
            for line in scripts["fish"].splitlines()
            if (f"from {c}'" if c else "use_subcommand") in line
        ),
    }
    for shell, listed in lists.items():
        for command, options in commands.items():
            words = listed(command)
            for option in options:
                assert re.search(rf"(?<!\S)'?\*?{option}\b", words), (shell, command, option)
        for command in filter(None, commands):
            assert re.search(rf"\b{command}\b", scripts[shell])


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_are_of_the_shells_language(shell, scripts, program_path):
    assert run(program_path(shell), "-n", stdin=scripts[shell]) == ""


def bash_candidates(script, words):
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    return run(
        "bash",
        "--norc",
        stdin=f"""{script}
compopt() {{ echo no files; }}  # there is none outside of a completion
COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}
_mobe
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    ).split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["comp"], ["compress", "compare", "completions"]),
        (["--v"], ["--version"]),
        (["compress", "--sh"], ["--shard", "--shard-gb"]),
        (["compress", "model", "out", "--method", ""], ["mobe", "svd", "molae", "d2moe"]),
        (["compress", "--method", "=", "m"], ["mobe", "molae"]),
        (["compress", "--method", "="], ["mobe", "svd", "molae", "d2moe"]),
        (["quantize", "model", "out", "--format", "int"], ["int8", "int6", "int5", "int4", "int3", "int2"]),
        (["completions", "z"], ["zsh"]),
        (["bench", "-p", ""], [""]),  # anything, so files
        (["inspect", "mod"], [""]),
        (["compress", "--bases", ""], ["no files", ""]),
        (["no such command", "$(echo no)"], [""]),
    ],
)
def test_bash_offers(words, offered, scripts):
    assert sorted(bash_candidates(scripts["bash"], ["mobe", *words])) == sorted(offered)


def test_fish_offers(scripts, program_path):
    offers = partial(run, program_path("fish"), "--no-config", "--command")
    for line, words in {
        "mobe comp": ["compress", "compare", "completions"],
        "mobe compress --method m": ["mobe", "molae"],
        "mobe completions b": ["bash"],
    }.items():
        found = offers(f"{scripts['fish']}\ncomplete -C '{line}'")
        assert sorted(row.split("\t")[0] for row in found.splitlines()) == sorted(words)


def test_another_shell_is_refused(mobe):
    assert "shell tcsh: expected bash, zsh, fish" in mobe("completions", "tcsh", code=2)
