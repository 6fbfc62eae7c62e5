"""mobe doctor: this machine, and a model on it, with its weights or without."""

import functools
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

sys.path.append(str(REPOSITORY / "scripts"))

from model_shapes import make_config  # noqa: E402

INDEX = "model.safetensors.index.json"


def test_machine(mobe):
    report = mobe("doctor", "--json", "--threads", 1)
    assert report["model"] is None
    machine = report["machine"]
    assert machine["threads"] == 1
    assert machine["memory"]["bytes"] > 0 and machine["memory"]["limit"]
    assert machine["bytes_per_second"] > 0
    assert set(machine["operations_per_second"]) == {"float32", "bfloat16", "int8"}
    kernels = machine["kernels"]
    assert [k["name"] for k in kernels if k["chosen"]] == [
        next(k["name"] for k in kernels if k["available"])
    ]
    assert kernels[-1]["name"] == "scalar"
    for kernel in kernels:
        assert bool(kernel["why_not"]) != kernel["chosen"]
    for instructions in machine["instructions"]:
        assert bool(instructions["missing"]) != instructions["available"]
    text = mobe("doctor")
    for word in ("CPU ", "memory ", "reading ", "oneDNN ", "chosen", "AMX BF16"):
        assert word in text


def test_says_who_chose(mobe_program):
    environment = {**os.environ, "MOBE_KERNELS": "scalar", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [mobe_program, "doctor", "--json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    machine = json.loads(done.stdout)["machine"]
    chosen = {k["name"]: k for k in machine["kernels"]}
    assert chosen.pop("scalar")["chosen"]
    for kernel in chosen.values():
        if kernel["available"]:
            assert kernel["why_not"] == "MOBE_KERNELS is scalar"
    assert machine["onednn"]["limited_by"] == "ONEDNN_MAX_CPU_ISA=AVX2"
    assert "avx512" not in machine["onednn"]["instructions"]


@pytest.fixture(scope="module")
def report_of(mobe, data):
    """What it says of a model of tests/data. It measures for a second or two, so once
    of each."""
    return functools.cache(lambda name: mobe("doctor", data / "models" / name, "--json"))


def modes(report):
    return {need["mode"]: need for need in report["model"]["experts"]}


def test_model(mobe, data, report_of):
    plain = report_of("qwen3_moe")
    assert plain["model"]["weights_here"] and plain["model"]["mobe"] is None
    assert plain["model"]["disk"]["bytes"] > plain["model"]["bytes"] / 2
    assert set(modes(plain)) == {"plain", "streamed"}
    factored = report_of("qwen3_mobe")
    needs = modes(factored)
    built = {"built float32", "built bfloat16", "built int8"}
    assert set(needs) == built | {"cached int8", "fused", "streamed"}
    assert factored["model"]["mobe"]["num_bases"] == 4
    assert needs["fused"]["memory_bytes"] < needs["built bfloat16"]["memory_bytes"]
    same = ("memory_bytes", "bytes_per_token", "operations_per_token")
    for key in same:
        assert needs["built bfloat16"][key] == modes(plain)["plain"][key]
    for need in needs.values():
        assert need["fits"]
        reading = need["tokens_per_second_by_reading"]
        products = need["tokens_per_second_by_products"]
        disk = need["tokens_per_second_by_disk"]
        assert (disk is None) == (need["mode"] != "streamed")
        bounds = [bound for bound in (reading, products, disk) if bound is not None]
        assert need["tokens_per_second"] == min(bounds) > 0
        bandwidth = factored["machine"]["bytes_per_second"]
        assert reading == pytest.approx(bandwidth / need["bytes_per_token"])
    # Here is room for all; what they are made of stays.
    cached = needs["cached int8"]
    assert (cached["experts_built"], cached["share_found"]) == (2 * 16, 1)
    assert cached["bytes_per_token"] == needs["built int8"]["bytes_per_token"]
    assert cached["memory_bytes"] > needs["built int8"]["memory_bytes"]
    assert needs["fused"]["share_found"] is None
    text = mobe("doctor", data / "models/qwen3_mobe")
    assert "built bfloat16" in text and "gate and up of 2 layers" in text
    assert "cached int8: only with --experts cached; here 32 of 32 experts built" in text


@pytest.mark.parametrize("name", ["qwen3_moe", "qwen3_mobe", "deepseek_v2"])
def test_before_the_weights_are_here(mobe, data, report_of, tmp_path, name):
    shutil.copy(data / "models" / name / "config.json", tmp_path)
    alone = mobe("doctor", tmp_path, "--json")
    if name == "qwen3_moe":
        # As a download begins: the index names files that have not come.
        files = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
        (tmp_path / INDEX).write_text(json.dumps(files))
    known = mobe("doctor", tmp_path, "--json")
    whole = report_of(name)
    assert not known["model"]["weights_here"] and known["model"]["disk"] is None
    assert known["model"]["bytes"] == whole["model"]["bytes"]
    for mode, need in modes(known).items():
        for key in ("memory_bytes", "bytes_per_token", "operations_per_token"):
            assert need[key] == modes(whole)[mode][key]


@pytest.mark.parametrize(
    ("name", "shards"), [("qwen3_moe", "0.0001"), ("qwen3_mobe", "5")]
)
def test_quantised_before_the_weights_are_here(mobe, data, tmp_path, name, shards):
    """By config.json, and by the index where there is one."""
    out, bare = tmp_path / "q", tmp_path / "bare"
    options = ("--format", "int4", "--shard-gb", shards)
    mobe("quantize", data / "models" / name, out, *options)
    bare.mkdir()
    for file in out.glob("*.json"):
        shutil.copy(file, bare)
    whole = mobe("doctor", out, "--json")["model"]
    known = mobe("doctor", bare, "--json")["model"]
    assert whole["weights_here"] and not known["weights_here"]
    assert whole["formats"]["a"] == ["int4"] and "head" in whole["formats"]
    for key in ("formats", "bytes", "mobe"):
        assert known[key] == whole[key], key
    assert "a int4" in mobe("doctor", bare)


def test_index_tells_parts(mobe, data, tmp_path):
    out, bare = tmp_path / "q", tmp_path / "bare"
    options = ("--format", "int4", "--parts", "down", "--shard-gb", "0.0001")
    mobe("quantize", data / "models/qwen3_moe", out, *options)
    bare.mkdir()
    for file in out.glob("*.json"):
        shutil.copy(file, bare)
    assert mobe("doctor", bare, "--json")["model"]["formats"] == {"down": ["int4"]}


def test_published_model_by_its_config(mobe, tmp_path):
    """Of the true Qwen3-30B-A3B, whose sizes are known."""
    (tmp_path / "config.json").write_text(json.dumps(make_config("Qwen3-30B-A3B")))
    report = mobe("doctor", tmp_path, "--json")
    need = modes(report)["plain"]
    assert need["memory_bytes"] == pytest.approx(61.1e9, rel=0.01)
    assert need["bytes_per_token"] == pytest.approx(2 * 3.0e9, rel=0.02)
    assert "which are not here: by config.json" in mobe("doctor", tmp_path)


def test_faults(mobe, tmp_path):
    assert "no such folder" in mobe("doctor", tmp_path / "none", code=1)
    assert "config.json" in mobe("doctor", tmp_path, code=1)
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    assert "other" in mobe("doctor", tmp_path, code=1)
