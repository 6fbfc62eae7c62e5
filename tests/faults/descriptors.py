"""Closed descriptors, full disks, pipes and devices where files are expected, files that
shrink, and outputs that name inputs: one line, or the right result; nothing is lost."""

import contextlib
import itertools
import os
import shutil
import stat
import subprocess
import time

from common import JOBS, contents, difference, finish, pick, run, start
from limits import steady

PRINTING = {
    "inspect": "inspect {factored} --json",
    "verify": "verify {factored} --against {model} --json",
    "perplexity": "perplexity {model} {text} --max-tokens 60 --json",
    "generate": "generate {model} --prompt castle --max-tokens 2 --json",
    "dry run": "compress {model} {out} --passes 3 --dry-run --json",
}
CHAT = "chat {model} --max-tokens 2"


def through_shell(redirections):
    return ("sh", "-c", f'exec "$@" {redirections}', "sh")


def closed(world, rng, folder, name, redirections):
    """With descriptors closed or full."""
    command = world.command({**JOBS, **PRINTING, "chat": CHAT}[name], folder / "out")
    # What the shell leaves open is seen here, unlike what chat would wait for.
    options = {} if "<" in redirections else {"stdin": subprocess.DEVNULL}
    ended = run(command, through_shell(redirections), **options)
    what = f"`mobe {command} {redirections}`"
    if ended.code is None or ended.code not in (0, 1):
        return what, ended.problem() or f"exit code {ended.code}"
    if ended.code == 1 and "2>" not in redirections and ended.problem():
        return what, ended.problem()
    if ended.code == 1 and ">" not in redirections:
        return what, f"fails with its output open: {ended.err}"
    if ended.code == 0 and ">/dev/full" in redirections.split() and name in PRINTING:
        return what, "exit code 0, and nothing printed"
    if name not in JOBS:
        return what, None
    if not (folder / "out").is_file():
        again = run(command)
        if again.code != 0:
            return what, f"the same command again ends with {again.code}: {again.err}"
    return what, difference(contents(folder / "out"), world.expected(name))


# What stands where a file of a model is expected.
def a_fifo(path):
    os.mkfifo(path)


def a_folder(path):
    path.mkdir()


def a_device(path):
    path.symlink_to("/dev/zero")


def a_terminal(path):
    path.symlink_to("/dev/tty")


def a_dangling_link(path):
    path.symlink_to("/nowhere/at/all")


SPECIAL = (a_fifo, a_folder, a_device, a_terminal, a_dangling_link)
MEMBERS = (
    "config.json",
    "model-00002-of-00003.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "README.md",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
    "extra.txt",
)


def member(world, rng, folder, name, special, command):
    """With something else instead of a file of the model."""
    model = folder / "model"
    shutil.copytree(world.files["model"], model)
    (model / name).unlink(missing_ok=True)
    special(model / name)
    command = world.command(command.replace("{model}", str(model)), folder / "out")
    what = f"{special.__name__} as {name}: `mobe {command}`"
    ended = run(command)
    if ended.problem():
        return what, ended.problem()
    said = name.split("/")[-1] in ended.err + ended.out
    if ended.code == 1 and not said and "additional" not in name:
        return what, f"does not name it: {ended.err}"
    read = "generate" not in command or name.endswith(("config.json", "tokenizer.json"))
    if ended.code == 0 and special is a_dangling_link and read and not said:
        return what, "exit code 0, and not a word on it"
    bad = [
        n
        for n, is_ in contents(folder / "out").items()
        if is_.startswith(("link", "special"))
    ]
    return what, f"copied as such: {bad}" if bad else None


def odd_name(world, rng, folder, name):
    """With a side file of an odd name."""
    model = folder / "model"
    shutil.copytree(world.files["model"], model)
    with open(os.path.join(os.fsencode(model), name), "w") as file:
        file.write("aside\n")
    command = world.command(
        JOBS["compress"].replace("{model}", str(model)), folder / "out"
    )
    ended = run(command)
    what = f"a side file {name}: `mobe {command}`"
    raw = set(ended.out + ended.err) - {"\n"}
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in raw):
        return what, f"prints control characters: {ended.err!r}"
    if ended.problem() or ended.code == 1:
        return what, ended.problem()
    verify = world.command(f"verify {{out}} --against {model}", folder / "out")
    ended = run(verify)
    return what, (
        ended.problem() if ended.code == 0 else f"{verify}: {ended.err} {ended.out}"
    )


def piped(world, rng, folder, template, by):
    """A text or ids that come through a pipe, as from a file."""
    source = world.files["ids" if "{ids}" in template else "text"]
    key = "{ids}" if "{ids}" in template else "{text}"
    right = run(world.command(template, folder / "out"))
    before = contents(folder)
    (folder / "out").unlink(missing_ok=True)
    if by == "stdin":
        command = world.command(template.replace(key, "/dev/stdin"), folder / "out")
        with open(source) as text, subprocess.Popen(
            ["cat"], stdin=text, stdout=-1
        ) as cat:
            ended = run(command, stdin=cat.stdout)
    else:
        os.mkfifo(folder / "fifo")
        command = world.command(
            template.replace(key, str(folder / "fifo")), folder / "out"
        )
        process = start(command)
        writer = subprocess.Popen(["sh", "-c", f"cat {source} >{folder}/fifo"])
        ended = finish(process, command)
        writer.kill()
        writer.wait()
        (folder / "fifo").unlink()
    what = f"`mobe {command}` from a pipe"
    if ended.code != right.code:
        return what, ended.problem() or f"exit code {ended.code}: {ended.err}"
    if steady(ended.out) != steady(right.out):
        return what, f"prints {ended.out}, expected {right.out}"
    return what, difference(contents(folder), before)


def endless(world, rng, folder, template, device):
    """A device instead of a text or an output."""
    command = world.command(template.replace("{device}", device), folder / "out")
    ended = run(command)
    what = f"`mobe {command}`"
    return what, ended.problem() or (None if ended.code else "exit code 0")


def onto_special(world, rng, folder, template, special):
    """An output that names what is no file: it stays what it is."""
    out = folder / "out"
    special(out)
    kind = stat.S_IFMT(os.lstat(out).st_mode)
    command = world.command(template, out)
    process = start(command)
    reader = None
    if special is a_fifo:
        reader = subprocess.Popen(["cat", str(out)], stdout=subprocess.DEVNULL)
    ended = finish(process, command)
    if reader:
        reader.kill()
        reader.wait()
    what = f"onto {special.__name__}: `mobe {command}`"
    changed = not os.path.lexists(out) or stat.S_IFMT(os.lstat(out).st_mode) != kind
    return what, ended.problem() or ("it is replaced" if changed else None)


def shrinks(world, rng, folder, name):
    """A file of the model that is truncated while it is read."""
    model = folder / "model"
    shutil.copytree(world.files["model"], model)
    template = {**JOBS, **PRINTING}[name].replace("--passes 3", "--passes 60")
    command = world.command(template.replace("{model}", str(model)), folder / "out")
    shard = model / f"model-0000{rng.randint(1, 3)}-of-00003.safetensors"
    size = rng.choice((0, rng.randrange(shard.stat().st_size)))
    process = start(command)
    delay = rng.uniform(0, 0.3)
    time.sleep(delay)
    with contextlib.suppress(OSError):
        os.truncate(shard, size)
    ended = finish(process, command)
    what = f"{shard.name} cut to {size} after {delay:.3f} s: `mobe {command}`"
    return what, ended.problem()


# Each names a file or folder that is there: it is refused.
OVERWRITING = (
    "report {factored} -o {factored}/model.safetensors",
    "report {factored} -o {factored}/config.json",
    "report {factored} --original {model} -o {model}/README.md",
    "report {factored} -o {model}/link.html",
    "report {factored} -o {model}/hard.html",
    "report {factored} -o {text}",
    "compress {model} {out} --passes 2 --trace {model}/config.json",
    "compress {model} {out} --passes 2 --trace {text}",
    "compress {model} {out} --passes 2 --trace {model}/link.html",
    "compress {model} {out} --passes 2 --calibrate {text} --trace {text}",
    "compress {model} {out} --passes 2 --trace {out}/config.json --layers 1",
    "logits {model} --ids {ids} --out {ids}",
    "logits {model} --ids {ids} --out {model}/model-00001-of-00003.safetensors",
    "calibrate {model} {text} {text}",
    "calibrate {model} {text} {model}/tokenizer.json",
    "compress {model} {model} --passes 2",
    "compress {model} {factored} --passes 2",
    "compress {model} {model} --method svd",
    "compress {model} {factored} --method svd",
    "compress {model} {text} --passes 2",
    "compress {model} {text} --method svd",
    "reconstruct {factored} {factored}",
    "reconstruct {factored} {model}",
    "reconstruct {factored} {text}",
    "reconstruct {factored} {part0}",
    "merge {model} {part0} {part0} {part1}",
    "merge {model} {model} {part0} {part1}",
    "compress {model} {part0} --method svd",
)


def overwrites(world, rng, folder, template):
    inputs = folder / "in"
    shutil.copytree(world.folder / "in", inputs)
    (inputs / "model/link.html").symlink_to(inputs / "model/README.md")
    os.link(inputs / "model/README.md", inputs / "model/hard.html")
    before = contents(inputs)
    command = world.command(template, folder / "out").replace(
        str(world.folder / "in"), str(inputs)
    )
    ended = run(command)
    what = f"`mobe {command}`"
    changed = difference(contents(inputs), before)
    return what, changed or ended.problem(codes=(0, 1, 2))


TEXTS = (
    "perplexity {model} {text} --json",
    "generate {model} --prompt-file {text} --max-tokens 2",
    "logits {model} --ids {ids} --out {out}",
)
CLOSED = (
    "<&-",
    ">&-",
    "2>&-",
    "<&- >&- 2>&-",
    ">&- 2>&-",
    ">/dev/full",
    "2>/dev/full",
    ">/dev/full 2>/dev/full",
)
CASES = [
    *((closed, *c) for c in itertools.product([*JOBS, *PRINTING, "chat"], CLOSED)),
    *(
        (member, *c)
        for c in itertools.product(
            MEMBERS, SPECIAL, (JOBS["compress"], JOBS["svd"], PRINTING["generate"])
        )
    ),
    *(
        (odd_name, name)
        for name in (
            b"\xff\xfe.txt",
            b"\x1b[31mred.txt",
            b"new\nline.txt",
            b"a b'c\"d.txt",
            b"\xc2\x9b.txt",
            "größe.txt".encode(),
            b"-o.txt",
            b"x" * 250 + b".txt",
        )
    ),
    *((piped, *c) for c in itertools.product(TEXTS, ("stdin", "fifo"))),
    *(
        (endless, t, d)
        for t in (
            "perplexity {model} {device}",
            "logits {model} --ids {device} --out {out}",
            "compress {model} {out} --passes 2 --calibrate {device}",
            "generate {model} --prompt-file {device}",
            "chat {model} --messages {device}",
            "chat {model} --template {device}",
        )
        for d in ("/dev/zero", "/dev/urandom", "/dev")
    ),
    *(
        (onto_special, *c)
        for c in itertools.product(
            (JOBS["report"], JOBS["logits"], JOBS["moments"], JOBS["compress"]),
            (a_fifo, a_dangling_link),
        )
    ),
    *(
        (shrinks, name)
        for name in (
            "compress",
            "calibrated",
            "svd",
            "verify",
            "perplexity",
            "generate",
        )
        * 5
    ),
    *((overwrites, template) for template in OVERWRITING),
]
COUNT = len(CASES)


def attempt(world, rng, seed, number):
    case, *arguments = pick(CASES, seed, number)
    with world.scratch() as folder:
        what, problem = case(world, rng, folder, *arguments)
        return f"{case.__name__}: {what}", problem
