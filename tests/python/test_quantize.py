"""Quantised models as numpy reads them, by the layout that src/tensor/packed.h tells."""

import json
import subprocess
import time

import numpy as np
import pytest
import torch
from checkpoints import tensors_of

BITS = {f"int{bits}": bits for bits in (2, 3, 4, 5, 6, 8)}


def decode(codes, scales, rows, cols, form):
    """The float matrix of two planes."""
    blocks, groups, lanes = scales.shape
    bits = BITS[form]
    if bits < 8:  # a plane of low bits and, unless it is all, one of the others
        low = 2 if bits < 4 else 4
        widths = [low, bits - low] if bits > low else [low]
        quads = 8 // widths[-1]  # of a unit; a line of 64 bytes holds 8 / width
        units = codes.reshape(-1, quads * bits // 8, 64)
        all_quads = np.zeros((len(units), quads, 64), np.uint8)
        line = 0
        for width, shift in zip(widths, (0, low), strict=False):
            for quad in range(quads):
                byte = units[:, line + quad * width // 8]
                part = byte >> (quad * width % 8) & ((1 << width) - 1)
                all_quads[:, quad] |= part << shift
            line += quads * width // 8
        codes = all_quads
    codes = codes.reshape(blocks, -1, lanes, 4)
    values = codes.astype(np.float32)
    values = values - (1 << bits - 1) if bits > 3 else 2 * values + 1 - (1 << bits)
    values = values.transpose(0, 2, 1, 3).reshape(blocks * lanes, -1)[:rows, :cols]
    scales = scales.transpose(0, 2, 1).reshape(blocks * lanes, groups)[:rows]
    return values * np.repeat(scales, 64 if bits == 8 else 32, axis=1)[:, :cols]


@pytest.mark.parametrize("form", BITS)
def test_planes_are_as_documented(mobe, models, tmp_path, form):
    original = models / "mini-qwen3-moe"
    report = mobe("quantize", original, tmp_path / "q", "--format", form, "--json")
    before, after = tensors_of(original), tensors_of(tmp_path / "q")
    config = json.loads((tmp_path / "q/config.json").read_text())
    assert config["mobe"]["version"] == 3
    errors, squares = 0.0, 0.0
    seen = 0
    for name, tensor in before.items():
        if name in after:
            assert torch.equal(tensor, after[name]), name
            continue
        stored = next(f for f in config["mobe"]["packed"] if f"{name}.{f}" in after)
        if "embed" not in name and "lm_head" not in name:
            assert stored == form
        codes = after[f"{name}.{stored}"].numpy()
        scales = after[f"{name}.{stored}.scales"].float().numpy()
        values = decode(codes, scales, *tensor.shape, stored)
        given = tensor.float().numpy()
        errors += float(((values - given) ** 2).sum())
        squares += float((given**2).sum())
        seen += 1
    assert seen == report["matrices"]
    assert report["relative"] == pytest.approx((errors / squares) ** 0.5, rel=1e-4)
    share = (BITS[form] + 0.5) / 16 + 0.05  # the embedding takes 8 bits
    assert report["bytes_out"] < share * report["bytes_in"]


def test_eight_bits_are_nearest_and_the_embedding_is_as_it_is_read(mobe, models, tmp_path):
    """Codes are nearest to the numbers for the scale as it is stored. Not the embedding's:
    what the first layer's attention makes of its errors is less than of nearest codes'."""
    original = models / "mini-qwen3-moe"
    mobe("quantize", original, tmp_path / "q", "--format", "int8")
    before, after = tensors_of(original), tensors_of(tmp_path / "q")

    def stored(name):
        codes, scales = after[f"{name}.int8"], after[f"{name}.int8.scales"].float()
        return decode(codes.numpy(), scales.numpy(), *before[name].shape, "int8")

    def scales_of(given):
        largest = abs(given).reshape(len(given), -1, 64).max(2)
        scales = torch.from_numpy(largest / 127).bfloat16().float().numpy()
        return np.repeat(scales, 64, axis=1)

    attention = [f"model.layers.0.self_attn.{kind}_proj.weight" for kind in "qkv"]
    for name in attention:
        given = before[name].float().numpy()
        assert (abs(stored(name) - given) <= 0.5001 * scales_of(given)).all(), name
    name = "model.embed_tokens.weight"
    given = before[name].float().numpy()
    norm = before["model.layers.0.input_layernorm.weight"].float().numpy()
    readers = np.concatenate([before[name].float().numpy() for name in attention]) * norm

    def lost(values):
        return (((values - given) @ readers.T) ** 2).sum()

    nearest = np.rint(given / scales_of(given)) * scales_of(given)
    assert lost(stored(name)) < 0.5 * lost(nearest)
    compared = mobe("compare", original, tmp_path / "q", original / "sample.txt", "--json")
    assert compared["kld_p50"] < 0.000035


def test_bases_of_the_identity_are_multiplied(mobe, mobe_logits, models, tmp_path):
    """As they are stored, by few tokens: to what they give when experts are built."""
    fit = ("--ratio", 0.75, "--budget", 1, "--activation", "identity")
    mobe("compress", models / "mini-qwen3-moe", tmp_path / "m", *fit)
    ids = torch.arange(12).reshape(2, 6) * 7
    for bits in ("int3", "int6"):
        formats = ("--format", "int8", "--part-formats", f"bases={bits}")
        mobe("quantize", tmp_path / "m", tmp_path / bits, *formats)
        fused = mobe_logits(tmp_path / bits, ids, "--experts", "fused")
        built = mobe_logits(tmp_path / bits, ids, "--experts", "built", "--built-format", "f32")
        off = ((fused - built).norm() / built.norm()).item()
        assert off < 0.01, (bits, off)


def test_a_factored_model_runs_quantised(mobe, mobe_logits, models, tmp_path):
    """Fused and built, to what its plain form gives; weights and inputs are rounded
    to 8 bits, each within 1 %."""
    original = models / "mini-qwen3-moe"
    mobe("compress", original, tmp_path / "m", "--ratio", 0.75, "--budget", 1)
    mobe("quantize", tmp_path / "m", tmp_path / "q", "--format", "int8")
    ids = torch.arange(40).reshape(2, 20) * 7
    want = mobe_logits(tmp_path / "m", ids)
    for experts in ("fused", "built"):
        got = mobe_logits(tmp_path / "q", ids, "--experts", experts)
        off = ((got - want).norm() / want.norm()).item()
        assert 1e-4 < off < 0.05, (experts, off)
    verified = mobe("verify", tmp_path / "q", "--against", original, "--json")
    assert verified["ok"] and verified["tensors_packed"] > 0
    assert {p["part"] for p in verified["parts"]} == {"down", "attention", "embedding"}
    assert "a int8" in mobe("inspect", tmp_path / "q")
    bits = mobe("inspect", tmp_path / "q", "--json")["bits_per_weight"]
    assert bits["down"] == pytest.approx(8.25, rel=0.1)
    assert 8 < bits["bases"] < 8.2
    page = tmp_path / "page.html"
    text = mobe("report", tmp_path / "q", "--original", original, "-o", page)
    assert "bases int8" in text and "<h2>Quantised</h2>" in page.read_text()
    card = (tmp_path / "q/README.md").read_text()
    assert "| bases | int8 |" in card and "Errors before quantising" in card


def test_calibrated(mobe, models, tmp_path):
    """It loses less on the text, and more of the numbers."""
    original = models / "mini-qwen3-moe"
    text = original / "sample.txt"
    options = ("--format", "int4", "--parts", "down", "--json")
    even = mobe("quantize", original, tmp_path / "even", *options)
    options += ("--calibrate", text, "--calibrate-tokens", 4096)
    read = mobe("quantize", original, tmp_path / "read", *options)
    assert read["relative"] > even["relative"]
    losses = [
        mobe("compare", original, tmp_path / name, text, "--max-tokens", 4096, "--json")
        for name in ("even", "read")
    ]
    assert losses[1]["kld_mean"] < losses[0]["kld_mean"]
    page = tmp_path / "page.html"
    assert "down int4" in mobe("report", tmp_path / "read", "-o", page)
    assert "calibrate" in page.read_text()
    other = (*options[:-1], 2048)
    assert "another option (calibrate" in mobe(
        "quantize", original, tmp_path / "read", *other, code=1
    )


def test_in_one_go(mobe, models, tmp_path):
    """compress --format, in shares and whole."""
    original = models / "mini-qwen3-moe"
    options = ("--bases", 4, "--passes", 2, "--format", "int4", "--parts", "a,down")
    plan = mobe("compress", original, tmp_path / "q", *options, "--dry-run", "--json")
    assert plan["formats"] == ["int4"]
    report = mobe("compress", original, tmp_path / "q", *options, "--json")
    assert report["bytes_out"] == plan["bytes_out"]
    inspected = mobe("inspect", tmp_path / "q", "--json")
    assert inspected["bytes"] == report["bytes_out"]
    assert inspected["formats"]["a"] == ["int4"]
    assert [p["part"] for p in inspected["recipe"]["parts"]] == ["a", "down"]
    assert "| a | int4 |" in (tmp_path / "q/README.md").read_text()
    parts = [tmp_path / f"part{i}" for i in (0, 1)]
    for i, part in enumerate(parts):
        mobe("compress", original, part, *options, "--shard", f"{i}/2")
    mobe("merge", original, tmp_path / "merged", *parts)
    for file in (tmp_path / "q").iterdir():
        assert file.read_bytes() == (tmp_path / "merged" / file.name).read_bytes(), file


def test_bytes_are_kept_to(mobe, data, tmp_path):
    """By layers, with and without factors; in bytes and in bits a weight; asked again,
    nothing is chosen again; what can't be is refused in a line."""
    original, factored = data / "models/qwen3_moe", data / "models/qwen3_mobe"
    text = ("--calibrate", "random", "--calibrate-tokens", 300, "--calibrate-context", 30)
    options = ("--bytes", "0.28MB", *text)
    plain = mobe("quantize", original, tmp_path / "plain", *options, "--json")
    assert 272_000 < plain["bytes_out"] <= 280_000
    formats = {part["format"] for part in plain["parts"] if part["part"] in ("a", "down")}
    assert len(formats) > 1
    assert mobe("quantize", original, tmp_path / "plain", *options, "--json")["already"]
    counts = mobe("inspect", original, "--json")["parameters"]
    weights = sum(count for part, count in counts.items() if part != "total")
    same = ("--bpw", 8 * 280_000.5 / weights, *text)
    again = mobe("quantize", original, tmp_path / "again", *same, "--json")
    assert again["parts"] == plain["parts"]
    # The factors are off by a tenth: less than matrices in 2 bits, more than in 4.
    options = ("--bytes", "0.265MB", "--factored", factored, *text)
    mixed = mobe("quantize", original, tmp_path / "mixed", *options, "--json")
    assert 257_000 < mixed["bytes_out"] <= 265_000
    assert "bases" in {part["part"] for part in mixed["parts"]}
    assert mobe("verify", tmp_path / "mixed", "--against", original, "--json")["ok"]
    assert "MoBE: gate and up" in mobe("inspect", tmp_path / "mixed")
    no = tmp_path / "no"
    for given, said in (
        (("--bytes", "0.1MB", *text), "are the least"),
        (("--bytes", "0.28MB"), "give one by --calibrate, or --moments"),
        (("--format", "int4", "--factored", factored), "only for --bytes or --bpw"),
    ):
        assert said in mobe("quantize", original, no, *given, code=1), given
    for given in (options, ("--bytes", "0.28MB", *text)):
        assert "is factored already" in mobe("quantize", factored, no, *given, code=1)
    for folder in ("plain", "mixed"):
        said = mobe("quantize", tmp_path / folder, no, "--bytes", "0.28MB", *text, code=1)
        assert "is quantised already" in said


def test_a_choice_tells_of_the_fits(mobe, data, tmp_path):
    """The recipe and the card name the fits whose factors are stored, and a folder holds
    to what was chosen for it."""
    original = tmp_path / "original"  # experts of few bases
    mobe("reconstruct", data / "models/qwen3_mobe", original)
    text = ("--calibrate", "random", "--calibrate-tokens", 300, "--calibrate-context", 30)
    fit = ("--bases", 2, "--passes", 200)
    mobe("compress", original, tmp_path / "fit", *fit)
    options = ("--factored", tmp_path / "fit", *text)
    mobe("quantize", original, tmp_path / "mixed", "--bytes", 240_000, *options)
    recipe = json.loads((tmp_path / "mixed/recipe.json").read_text())
    fits = json.loads((tmp_path / "fit/recipe.json").read_text())["options"]
    layers = [layer for layer, _ in recipe["options"]["factored_layers"]]
    assert layers and recipe["options"]["fits"] == [{"layers": layers, "options": fits}]
    assert [m["layer"] for m in recipe["matrices"]] == sorted(2 * layers)
    card = (tmp_path / "mixed/README.md").read_text()
    assert "compressed with MoBE and quantised" in card and "bytes 240000" in card
    assert "num\\_B 2" in card and "activation silu" in card
    # So do those of all factors in few bits.
    mobe("quantize", tmp_path / "fit", tmp_path / "all", "--format", "int4")
    recipe = json.loads((tmp_path / "all/recipe.json").read_text())
    assert recipe["options"]["fits"][0]["options"] == fits
    mobe("quantize", original, tmp_path / "plain", "--format", "int4")
    assert "MoBE" not in (tmp_path / "plain/README.md").read_text()
    said = mobe("quantize", original, tmp_path / "mixed", "--bytes", 260_000, *options, code=1)
    assert "with another option (bytes: 240000, now 260000)" in said


def test_compress_to_bytes(mobe_program, mobe, data, tmp_path):
    """In one go what calibrate, compress and quantize --factored write one after the other,
    but for the card and the recipe; after kills, too."""
    original = tmp_path / "original"  # experts of few bases
    mobe("reconstruct", data / "models/qwen3_mobe", original)
    text = ("--calibrate", "random", "--calibrate-tokens", 300, "--calibrate-context", 30)
    fit = ("--bases", 2, "--activation", "silu", "--passes", 200)
    tokens = ("--max-tokens", 300, "--context", 30)
    mobe("calibrate", original, "random", tmp_path / "moments", *tokens)
    moments = ("--moments", tmp_path / "moments")
    mobe("compress", original, tmp_path / "fit", *fit, *moments)
    choice = ("--bytes", 240_000, *moments)
    mobe("quantize", original, tmp_path / "steps", *choice, "--factored", tmp_path / "fit")
    out = tmp_path / "out"
    command = ("compress", original, out, *fit, "--bytes", 240_000, *text)
    ours = out / ".mobe"
    for file in (ours / "moments.safetensors", ours / "factored-2/.mobe", ours / "job.json"):
        process = subprocess.Popen([mobe_program, *map(str, command)], stdout=subprocess.DEVNULL)
        while not file.exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.wait()
    mobe(*command)
    assert not ours.exists()
    names = {file.name for file in out.iterdir()}
    assert names == {file.name for file in (tmp_path / "steps").iterdir()}
    for name in names - {"README.md", "recipe.json"}:
        assert (out / name).read_bytes() == (tmp_path / "steps" / name).read_bytes(), name
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["options"]["fits"][0]["options"]["num_B"] == 2
    assert "finished before" in mobe(*command)
    said = mobe(*command[:4], 3, *command[5:], code=1)
    assert "with another option (num_B: 2, now 3)" in said
    for given, words in (
        (("--bytes", 240_000), "give one by --calibrate, or --moments"),
        (("--bytes", 240_000, *text, "--ratio", 0.5), "leave out --kinds, --ratio"),
        (("--bytes", 100_000, *text, *fit), "are the least"),
    ):
        assert words in mobe("compress", original, tmp_path / "no", *given, code=1)
    planned = mobe("compress", original, tmp_path / "no", *choice, "--dry-run")
    assert "1 bases of rank 32, identity" in planned
    assert "choosing and rounding to 240.00 kB come after it" in planned
    # Defaults: the identity, and a tenth as many bases as experts.
    done = mobe("compress", original, tmp_path / "default", "--bytes", 245_000, *text)
    assert "1 bases of rank 32, identity" in done


def test_compress_to_a_size_with_several_numbers_of_bases(mobe, data, tmp_path):
    """What quantize --factored chooses among fits that were made one by one."""
    original = tmp_path / "original"
    mobe("reconstruct", data / "models/qwen3_mobe", original)
    mobe("calibrate", original, "random", tmp_path / "moments", "--max-tokens", 300)
    fit = ("--activation", "silu", "--passes", 50, "--moments", tmp_path / "moments")
    size = ("--bytes", 240_000, "--moments", tmp_path / "moments")
    fits = []
    for bases in (1, 2):
        fits += ["--factored", tmp_path / f"fit{bases}"]
        mobe("compress", original, fits[-1], "--bases", bases, *fit)
    mobe("quantize", original, tmp_path / "steps", *size, *fits)
    mobe("compress", "--bases", "1,2", original, tmp_path / "out", *fit[:4], *size)
    name = "model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "steps" / name).read_bytes()
    recipe = json.loads((tmp_path / "out/recipe.json").read_text())
    assert len(recipe["options"]["factored"]) == 2
    for options, words in (
        (("--bases", "1,2"), "give one"),
        (("--bases", "1,2", *size, "--dry-run"), "give --bases one number"),
        (("--bases", "1,2", *size, "--time", "1h"), "give --bases one number"),
    ):
        assert words in mobe("compress", original, tmp_path / "no", *options, code=1)


def test_more_bytes_than_can_be_used(mobe_program, mobe, data, tmp_path):
    original = data / "models/qwen3_moe"
    text = ("--calibrate", "random", "--calibrate-tokens", 60, "--calibrate-context", 30)
    command = [mobe_program, "quantize", original, tmp_path / "q", "--bytes", "9MB", *text]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    assert "9.00 MB are asked for, and " in done.stderr
    assert "the most that can be of use: experts in 8 bits" in done.stderr
    parts = mobe("inspect", tmp_path / "q", "--json")["recipe"]["parts"]
    assert {part["format"] for part in parts} == {"int8"}


def test_a_choice_goes_on_after_kills(mobe_program, mobe, data, tmp_path):
    """Killed while it calibrates, chooses and writes, the same command ends in the same
    bytes; once it writes, it goes on with what it chose."""
    original = data / "models/qwen3_moe"
    options = ["--bytes", "0.265MB", "--factored", data / "models/qwen3_mobe"]
    options += ["--calibrate", "random", "--calibrate-tokens", 300, "--calibrate-context", 30]
    options += ["--shard-gb", 0.00003]
    mobe("quantize", original, tmp_path / "whole", *options)
    out = tmp_path / "killed"
    command = [str(part) for part in (mobe_program, "quantize", original, out, *options)]
    shards = "model-*.safetensors"
    wanted = [lambda: (out / ".mobe").exists()]
    wanted += [lambda: (out / ".mobe/moments.safetensors").exists()]
    wanted += [lambda: any(out.glob(shards)), lambda: len([*out.glob(shards)]) > 3]
    chosen = []
    for is_there in wanted:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not is_there() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.wait()
        job = out / ".mobe/job.json"
        chosen += [job.read_bytes()] if job.exists() else []
    mobe(*command[1:])
    assert len(set(chosen)) <= 1
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (out / file.name).read_bytes(), file.name
