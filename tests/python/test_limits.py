"""The program with less than it would like: address space, memory, processes,
processors, descriptors, files that are none and files that vanish. The right result, or
one line and exit code 1; tests/faults tries many more such values."""

import json
import os
import resource
import shutil
import subprocess
import time

import pytest
from control_groups import control_group

MB = 10**6
SECONDS = 60


@pytest.fixture(scope="module")
def start(mobe_program):
    """Begins `mobe args...` with these limits, a value for each, and options of Popen."""

    def run(*args, limits=(), **options):
        def limit():
            for kind, value in limits:
                resource.setrlimit(kind, (value, value))

        defaults = {"stdin": subprocess.DEVNULL, "preexec_fn": limit}
        command = [str(part) for part in (mobe_program, *args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, **{**pipes, **defaults, **options})

    return run


def ended(process, text=None):
    """How it ended: exit code, stdout, stderr; one line where it failed, no hang."""
    try:
        out, err = process.communicate(text, SECONDS)
    finally:
        process.kill()
    assert process.returncode in (0, 1), (process.returncode, out, err)
    if process.returncode == 1:
        assert err.startswith("mobe: ") and err.count("\n") == 1, err
        assert "internal error" not in err
    return process.returncode, out, err


@pytest.fixture(scope="module")
def tiny(data):
    return data / "models/qwen3_moe"


@pytest.fixture(scope="module")
def fitted(start, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("limits") / "out"
    assert ended(start("compress", tiny, out, "--passes", 2, "--quiet"))[0] == 0
    return out


def same(out, other):
    names = sorted(p.name for p in other.iterdir())
    assert sorted(p.name for p in out.iterdir()) == names
    for name in (n for n in names if n.endswith(".safetensors")):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name


# From where the fit has no room, which OpenBLAS would wait for, to where it has.
@pytest.mark.parametrize("megabytes", [200, 280, 360, 440, 700])
def test_address_space(start, tiny, fitted, tmp_path, megabytes):
    limits = [(resource.RLIMIT_AS, megabytes * MB)]
    out = tmp_path / "out"
    process = start("compress", tiny, out, "--passes", 2, "--quiet", limits=limits)
    code, _, err = ended(process)
    if code == 0:
        same(out, fitted)
    elif megabytes >= 200:
        assert "out of memory" in err


def test_address_space_for_many_threads(start, tiny, tmp_path):
    process = start(
        "compress", tiny, tmp_path / "out", "--passes", 2, "--threads", 64, "--quiet",
        limits=[(resource.RLIMIT_AS, 2000 * MB)],
    )
    code, _, err = ended(process)
    assert code == 1
    assert "out of memory" in err and "ulimit -v" in err


@pytest.mark.parametrize("megabytes", [16, 32, 48, 64, 128])
def test_memory_of_a_group(start, tiny, fitted, tmp_path, megabytes):
    with control_group("memory", limit_in_bytes=megabytes << 20) as group:
        out = tmp_path / "out"
        process = start("compress", tiny, out, "--passes", 2, "--quiet", preexec_fn=group.join)
        code, _, err = ended(process)
        if code == 0:
            same(out, fitted)
        else:
            assert "out of memory" in err
        assert code == 0 or megabytes < 100
        ended(start("generate", fitted, "--prompt", "ab", "--max-tokens", 3, preexec_fn=group.join))


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_processes_of_a_group(start, tiny, most):
    with control_group("pids", max=most) as group:
        process = start(
            "generate", tiny, "--prompt", "ab", "--max-tokens", 2, "--threads", 16,
            preexec_fn=group.join,
        )
        code, _, err = ended(process)
        assert code == 0 if most > 1 else "cannot start a thread" in err


def test_quota_of_a_group(start, models, tmp_path):
    """One processor: as many threads by default, and not much slower with more."""
    with control_group("cpu", cfs_period_us=100000, cfs_quota_us=100000) as group:
        template = tmp_path / "template"
        template.write_text("{{ messages[0].content }}")
        command = ["chat", models / "mini-qwen3-moe", "--template", template]
        process = start(*command, stdin=subprocess.PIPE, preexec_fn=group.join)
        time.sleep(0.5)
        count = len(os.listdir(f"/proc/{process.pid}/task"))
        ended(process, "")
        assert count == 2  # the other waits for signals


PROMPT = "The castle was"


def test_text_from_a_pipe(start, mobe, models, tmp_path):
    model = models / "mini-qwen3-moe"
    options = ["--max-tokens", 3, "--temperature", 0]
    right = mobe("generate", model, "--prompt", PROMPT, *options)
    piped = start(
        "generate", model, "--prompt-file", "/dev/stdin", *options, stdin=subprocess.PIPE
    )
    assert ended(piped, PROMPT)[:2] == (0, right)

    text = tmp_path / "text"
    text.write_text(PROMPT * 20)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    keys = ("tokens", "ppl")
    right = mobe("perplexity", model, text, "--json")
    reading = start("perplexity", model, fifo, "--json")
    fifo.write_text(PROMPT * 20)
    piped = json.loads(ended(reading)[1])
    assert [piped[k] for k in keys] == [right[k] for k in keys]

    ids = start(
        "logits", model, "--ids", "/dev/stdin", "--out", tmp_path / "logits",
        stdin=subprocess.PIPE,
    )
    assert ended(ids, "[1, 2, 3]")[0] == 0


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "config.json"])
def test_fifo_in_a_model(start, tiny, tmp_path, name):
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    code, _, err = ended(start("generate", model, "--prompt", "ab", "--max-tokens", 1))
    assert code == 1 and f"{name}: not a regular file" in err


def closing(*descriptors):
    return lambda: [os.close(d) for d in descriptors]


def test_closed_descriptors(start, tiny, tmp_path):
    # The pipes are opened anew by Popen, so they are closed in the child.
    code, out, _ = ended(start("chat", tiny, preexec_fn=closing(0)))
    code, out, err = ended(start("inspect", tiny, preexec_fn=closing(1)))
    assert (code, out) == (1, "") and "standard output" in err
    code, out, _ = ended(start("--version", preexec_fn=closing(1)))
    assert (code, out) == (1, "")
    right = ended(start("inspect", tiny))
    assert ended(start("inspect", tiny, preexec_fn=closing(2))) == right

    # Whose descriptors would be 1 and 2.
    out = tmp_path / "out"
    process = start(
        "compress", tiny, out, "--passes", 1, preexec_fn=closing(0, 1, 2), stderr=None
    )
    process.communicate(timeout=SECONDS)
    assert process.returncode == 1  # what is to be printed can't be


def test_file_shrinks_while_it_is_read(start, models, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(models / "mini-qwen3-moe", model)
    template = tmp_path / "template"
    template.write_text("{{ messages[0].content }}")
    process = start(
        "chat", model, "--max-tokens", 1, "--template", template, stdin=subprocess.PIPE
    )
    shard = next(model.glob("*.safetensors"))
    while str(shard) not in open(f"/proc/{process.pid}/maps").read():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.3)
    os.truncate(shard, 0)
    code, _, err = ended(process, "Hello\n")
    assert code == 1 and f"missing: {shard}: was cut short" in err
