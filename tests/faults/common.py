"""What the kinds of faults share: running the program and judging how it ended,
inputs, the table of jobs, and what an undisturbed run of each writes."""

import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("MOBE", REPOSITORY / "build/release/mobe")).resolve()
MODELS = REPOSITORY / "tests/data/models"
SECONDS = 60  # more than this is a hang: each job takes less than a tenth of it

# What a job may leave and read: {out} is its own, all else is made once.
JOBS = {
    "compress": "compress {model} {out} --passes 3",
    "shards": "compress {model} {out} --passes 2 --shard-gb 0.0002 --kinds gate,up,down",
    "calibrated": "compress {model} {out} --passes 3 --calibrate {text} --calibrate-tokens 300",
    "split": "compress {model} {out} --passes 2 --split auto --ratio 0.7 --layers 1",
    "fp8": "compress {fp8} {out} --passes 2 --bases 2 --keep-fp8",
    "svd": "compress {model} {out} --method svd",
    "part": "compress {model} {out} --passes 3 --shard 0/2",
    "merge": "merge {model} {out} {part0} {part1}",
    "reconstruct": "reconstruct {factored} {out} --shard-gb 0.0003",
    "quantize": "quantize {factored} {out} --format int4 --shard-gb 0.0002",
    "quantized-text": "quantize {model} {out} --format int4 --calibrate {text} --calibrate-tokens 300",
    "packed": "compress {model} {out} --passes 2 --format int4 --kinds gate,up,down --shard-gb 0.0001",
    "report": "report {factored} -o {out}",
    "logits": "logits {model} --ids {ids} --out {out}",
    "moments": "calibrate {model} {text} {out} --max-tokens 300",
    "eval": "eval {model} --tasks ptb,c4,wikitext2 --data ptb={text} --data c4={text} "
    "--data wikitext2={text} --context 16 --log {out}",
}
LOGS = {"eval"}  # whose output says how far it has come, and never looks finished


class Skipped(Exception):
    """Why a try can't be made here."""


@dataclass
class Ended:
    """How a run of the program ended; code is None when it hung."""

    command: str
    code: int | None
    out: str
    err: str

    def problem(self, sent=(), codes=(0, 1)):
        """What is wrong with the end, or None: a hang, a signal that nobody sent, no
        line or several to say what failed."""
        if self.code is None:
            return f"hangs: no end within {SECONDS} s"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return None if -self.code in sent else f"died of {name}: {self.err[-300:]}"
        if self.code not in (*codes, *(128 + s for s in sent)):
            return f"exit code {self.code}: {self.err[-300:]}"
        lines = self.err.splitlines()
        faults = self.command.startswith("verify") and "fault" in self.out and not lines
        one = len(lines) == 1 and lines[0].startswith("mobe: ")
        if self.code != 0 and not one and not faults:
            return f"exit code {self.code} with {len(lines)} lines: {self.err[-300:]!r}"
        if "internal error" in self.err:
            return f"says: {self.err[-300:]}"
        return None


def start(command, prefix=(), **options):
    """Begins `command` (a string, without the program) in a session of its own."""
    defaults = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    return subprocess.Popen(
        [*prefix, str(PROGRAM), *shlex.split(command)],
        **{**defaults, **options},
        start_new_session=True,
    )


def finish(process, command, seconds=SECONDS):
    """Waits for the end of what start() began."""
    try:
        out, err = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    text = [(b or b"").decode(errors="replace") for b in (out, err)]
    return Ended(command, code, *text)


def run(command, prefix=(), **options):
    return finish(start(command, prefix, **options), command)


def contents(place, without=()):
    """Every file at or below `place`, by its name, as a hash; what is no file, as what
    it is. `without` are names at the top."""
    place = Path(place)
    found = {}
    for path in sorted([place, *place.rglob("*")]):
        name = str(path.relative_to(place))
        if name.split("/")[0] in without:
            continue
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif name != ".":
            found[name] = "folder" if path.is_dir() else "special"
    return found


def difference(found, expected):
    """The names that differ between two contents(), or None."""
    parts = [
        ("lacks", expected.keys() - found.keys()),
        ("has besides", found.keys() - expected.keys()),
        (
            "other bytes in",
            {n for n in found.keys() & expected.keys() if found[n] != expected[n]},
        ),
    ]
    return (
        "; ".join(
            f"{what} {', '.join(sorted(names))}" for what, names in parts if names
        )
        or None
    )


@dataclass
class World:
    """A scratch folder with the inputs of all jobs. `files` are their paths by the name
    that JOBS calls them."""

    folder: Path
    files: dict = field(default_factory=dict)
    undisturbed: dict = field(default_factory=dict)
    tries: int = 0

    def __post_init__(self):
        inputs = self.folder / "in"
        inputs.mkdir()
        names = {
            "model": "model",
            "fp8": "fp8",
            "text": "text.txt",
            "ids": "ids.json",
            "part0": "part0",
            "part1": "part1",
            "factored": "factored",
        }
        self.files = {key: inputs / name for key, name in names.items()}
        make_model(MODELS / "qwen3_moe", self.files["model"])
        make_model(MODELS / "deepseek_v3_fp8", self.files["fp8"])
        words = random.Random(1).choices(
            "the of a model and to in castle was".split(), k=400
        )
        self.files["text"].write_text(" ".join(words) + "\n")
        self.files["ids"].write_text(
            json.dumps([[1, 2, 3, 5, 8], [13, 21, 34, 55, 89]])
        )
        for i in (0, 1):
            must(
                self.command(f"compress {{model}} {{part{i}}} --passes 3 --shard {i}/2")
            )
        must(self.command("compress {model} {factored} --passes 3"))
        self.inputs = contents(inputs)

    def command(self, template, out=None, threads=1):
        threads = f" --threads {threads}" if threads else ""
        return f"{template} --quiet{threads}".format(**self.files, out=out)

    def job(self, name, out, threads=1):
        return self.command(JOBS[name], out, threads)

    def expected(self, name):
        """What an undisturbed run of a job writes."""
        if name not in self.undisturbed:
            with self.scratch() as folder:
                must(self.job(name, folder / "out"))
                self.undisturbed[name] = contents(folder / "out")
        return self.undisturbed[name]

    def scratch(self):
        """An empty folder for one try, removed after it."""
        self.tries += 1
        return Scratch(self.folder / f"try{self.tries}")

    def inputs_problem(self):
        changed = difference(contents(self.folder / "in"), self.inputs)
        return changed and f"the inputs are damaged: {changed}"


class Scratch:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.path.mkdir()
        # Another user writes here in some tries.
        self.path.chmod(0o777)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def make_model(source, target):
    """A copy of a model with what a downloaded one has beside its weights."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("golden*"))
    (target / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    (target / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    (target / "additional_chat_templates").mkdir()
    (target / "additional_chat_templates/tool_use.jinja").write_text(
        "{{ tools | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )


def must(command):
    """Runs what has to succeed for anything to be tried."""
    if not PROGRAM.exists():
        raise SystemExit(
            f"faults: {PROGRAM} is absent: make build, or name one in MOBE"
        )
    ended = run(command)
    if ended.code != 0:
        raise SystemExit(
            f"faults: `mobe {command}` fails undisturbed ({ended.code}): {ended.err}"
        )


def pick(table, seed, number):
    """The number-th of a table in a random order."""
    return random.Random(seed).sample(table, len(table))[number % len(table)]
