"""scripts/make_checkpoint.py: its names and shapes are those of the published models,
as transformers' classes, the published numbers of parameters and `mobe inspect` tell.
Widths are divided by 16, all else is the models' own."""

import json
import math
import re
import sys

import pytest
import torch
from checkpoints import load_stock, logits_of, sample_ids, tensors_of
from conftest import REPOSITORY
from safetensors import safe_open

sys.path.append(str(REPOSITORY / "scripts"))
import make_checkpoint  # noqa: E402
import model_shapes  # noqa: E402
import plan_cluster  # noqa: E402

# Of the whole models, in units of the last digit; without layers for
# multi-token prediction.
PUBLISHED = {
    "Qwen3-30B-A3B": "30.5",
    "Qwen3-235B-A22B": "235.1",
    "DeepSeek-V3": "671.0",
    "Kimi-K2": "1026.4",
    "DeepSeek-V2-Lite": "15.7",
    "Ling-Lite": "16.8",
    "Qwen3-Next-80B-A3B": "79.7",
    "GLM-4.5": "352.8",
    "GLM-4.5-Air": "106.9",
    "MiniMax-M2": "228.7",
}
# What transformers 4.57 calls the models that it has a class for.
IN_TRANSFORMERS = {
    "Qwen3-30B-A3B": "qwen3_moe",
    "DeepSeek-V3": "deepseek_v3",
    "Kimi-K2": "deepseek_v3",
    "DeepSeek-V2-Lite": "deepseek_v2",
    "Qwen3-Next-80B-A3B": "qwen3_next",
    "GLM-4.5": "glm4_moe",
    "GLM-4.5-Air": "glm4_moe",
}
# Checkpoints in ../shared whose names and dtypes are the published ones, each with
# what it has of options.
FIXTURES = {
    "qwen3_moe": ("Qwen3-30B-A3B", {}),
    "deepseek_v2": ("DeepSeek-V2-Lite", {}),
    "deepseek_v3": ("DeepSeek-V3", {"fp8": False}),
    "deepseek_v3_fp8": ("DeepSeek-V3", {"mtp": True}),
    "kimi_k2": ("Kimi-K2", {"fp8": False}),
    "bailing_moe": ("Ling-Lite", {"dense_layers": 0}),
}
DIVISOR = 16


def write_small(folder, model, **options):
    """Two layers, the first of them dense, with few experts."""
    dense = int(model != "MiniMax-M2")
    settings = {"layers": 2, "dense_layers": dense, "experts": 16, "divisor": DIVISOR}
    config = model_shapes.make_config(model, **(settings | options))
    make_checkpoint.write_checkpoint(folder, config, shard_bytes=20_000_000)
    return folder


def declared(folder):
    """Dtype and shape of each tensor, from the headers."""
    found = {}
    for shard in sorted(folder.glob("model*.safetensors")):
        with safe_open(shard, "pt") as file:
            for name in file.keys():
                entry = file.get_slice(name)
                found[name] = entry.get_dtype(), entry.get_shape()
    return found


@pytest.mark.parametrize("model", PUBLISHED)
def test_parameters_are_as_many_as_published(model):
    tensors = model_shapes.tensors_of(model_shapes.make_config(model))
    billions = sum(math.prod(tensor.shape) for tensor in tensors) / 1e9
    assert f"{billions:.1f}" == PUBLISHED[model]


PLANS = {
    "qwen3-30b": "Qwen3-30B-A3B",
    "qwen3-235b": "Qwen3-235B-A22B",
    "deepseek-v3": "DeepSeek-V3",
    "kimi-k2": "Kimi-K2",
    "qwen3-next-80b": "Qwen3-Next-80B-A3B",
    "glm-4.5": "GLM-4.5",
    "glm-4.5-air": "GLM-4.5-Air",
    "minimax-m2": "MiniMax-M2",
}


@pytest.mark.parametrize("plan", plan_cluster.MODELS)
def test_clusters_are_planned_for_these_models(plan):
    row, model = plan_cluster.MODELS[plan], PLANS[plan]
    config = model_shapes.make_config(model)
    tensors = list(model_shapes.tensors_of(config))
    gates = [t for t in tensors if t.role == "expert"][::3]
    assert {t.shape for t in gates} == {(row["p"], row["d"])}
    assert len(gates) == row["layers"] * row["n"]
    total = sum(math.prod(tensor.shape) for tensor in tensors)
    assert total == pytest.approx(row["total"], rel=2e-3)
    assert row["stored"] == (1 if "quantization_config" in config else 2)


# As docs/presets.md has them.
BY_THE_RULE = ("qwen3-next-80b", "glm-4.5", "glm-4.5-air", "minimax-m2")


def bases_of_the_rule(n, p, d):
    """As many as keep 0.752 of gate, up and down, as BasesForRatio has it; alpha counts."""
    return math.floor((0.628 - p / d) / (1 / n + 1 / (p * d)))


@pytest.mark.parametrize("plan", BY_THE_RULE)
def test_settings_are_those_of_the_rule(plan, mobe, tmp_path):
    n, p, d, m = (plan_cluster.MODELS[plan][key] for key in "npdm")
    assert m == bases_of_the_rule(n, p, d)
    folder = write_small(tmp_path / "model", PLANS[plan], layers=1, dense_layers=0, experts=None)
    report = mobe("compress", folder, tmp_path / "out", "--dry-run", "--json")
    narrow = bases_of_the_rule(n, p // DIVISOR, d // DIVISOR)
    assert {factor["num_B"] for factor in report["factors"]} == {narrow}
    assert {factor["matrix"] for factor in report["factors"]} == {"gate", "up"}


@pytest.mark.parametrize("model", IN_TRANSFORMERS)
def test_transformers_finds_every_tensor_and_runs(model, tmp_path):
    folder = write_small(tmp_path / "model", model, fp8=False)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = IN_TRANSFORMERS[model]
    (folder / "config.json").write_text(json.dumps(config))
    stock = load_stock(folder)
    assert {name: list(value.shape) for name, value in stock.state_dict().items()} == {
        name: shape for name, (_, shape) in declared(folder).items()
    }
    logits = logits_of(stock, sample_ids(config["vocab_size"]))
    assert logits.isfinite().all()
    assert 1 < logits.std() < 10


@pytest.mark.parametrize("fixture", FIXTURES)
def test_names_and_dtypes_are_the_fixtures(fixture, shared, tmp_path):
    def patterns(folder):
        found = declared(folder).items()
        return {re.sub(r"\d+", "N", name): dtype for name, (dtype, _) in found}

    model, options = FIXTURES[fixture]
    ours = patterns(write_small(tmp_path / "model", model, **options))
    assert ours == patterns(shared / "fixtures/models" / fixture)


@pytest.mark.parametrize("model", PUBLISHED)
def test_mobe_opens_and_runs_it(model, mobe, mobe_logits, tmp_path):
    folder = write_small(tmp_path / "model", model)
    report = mobe("inspect", folder, "--json")
    config = json.loads((folder / "config.json").read_text())
    tensors = model_shapes.tensors_of(config)
    assert report["layers"] == 2
    assert report["parameters"]["total"] == sum(math.prod(t.shape) for t in tensors)
    logits = mobe_logits(folder, sample_ids(config["vocab_size"]))
    assert logits.isfinite().all()


@pytest.mark.parametrize("mtp", [False, True])
def test_fp8_is_of_the_matrices_alone(mtp, tmp_path):
    options = {"model": "DeepSeek-V3", "experts": 16, "mtp": mtp}
    plain = write_small(tmp_path / "plain", fp8=False, **options)
    folder = write_small(tmp_path / "fp8", **options)
    stored, originals = tensors_of(folder), tensors_of(plain)
    assert any(name.startswith("model.layers.2.") for name in stored) == mtp
    scales = {name for name in stored if name.endswith("_scale_inv")}
    assert stored.keys() - scales == originals.keys()
    for name, original in originals.items():
        if f"{name}_scale_inv" not in scales:
            assert stored[name].equal(original)
            continue
        rows, cols = original.shape
        scale = stored[f"{name}_scale_inv"]
        assert scale.shape == (-(-rows // 128), -(-cols // 128))
        scale = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
        values = stored[name].float() * scale[:rows, :cols]
        # Half of the last of three bits, and bfloat16's; near zero the spacing is
        # that of the smallest number.
        error = (values - original.float()).abs()
        bound = original.float().abs() * (2**-4 + 2**-8) + scale[:rows, :cols] * 2**-10
        assert (error <= bound).all(), name
    in_fp8 = {name for name, value in stored.items() if value.dtype.itemsize == 1}
    assert {f"{name}_scale_inv" for name in in_fp8} == scales
    assert all(
        name.endswith("_proj.weight") or name.endswith("_with_mqa.weight") for name in in_fp8
    )
    assert "model.layers.2.eh_proj.weight" not in in_fp8


def test_experts_share_half_of_their_variance(tmp_path):
    folder = write_small(tmp_path / "model", "Qwen3-30B-A3B")
    tensors = tensors_of(folder)

    def spectrum(kind):
        name = "model.layers.1.mlp.experts.{}.{}_proj.weight"
        stacked = torch.cat([tensors[name.format(e, kind)].float() for e in range(16)])
        return torch.linalg.svdvals(stacked) ** 2

    for kind in ("gate", "up"):
        energy = spectrum(kind)
        assert 0.4 < energy[: make_checkpoint.RANK].sum() / energy.sum() < 0.75


def test_same_seed_same_bytes(tmp_path):
    def read(name, seed):
        config = model_shapes.make_config("Ling-Lite", layers=1, experts=6, divisor=DIVISOR)
        make_checkpoint.write_checkpoint(tmp_path / name, config, seed)
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert read("a", 0) == read("b", 0) != read("c", 1)


@pytest.mark.parametrize(
    "model, options",
    [
        ("DeepSeek-V3", {"experts": 20}),  # 8 groups
        ("DeepSeek-V3", {"experts": 8}),  # a group's score is of two
        ("Kimi-K2", {"experts": 4}),  # 8 of them a token
        ("Kimi-K2", {"mtp": True}),
        ("DeepSeek-V2-Lite", {"divisor": 7}),
        ("DeepSeek-V2-Lite", {"divisor": 0}),
        ("DeepSeek-V2-Lite", {"layers": 0}),
        ("DeepSeek-V2-Lite", {"dense_layers": -1}),
        ("MiniMax-M2", {"dense_layers": 1}),
    ],
)
def test_what_can_not_be_is_refused(model, options):
    with pytest.raises(ValueError):
        model_shapes.make_config(model, **options)


def test_a_folder_in_use_is_refused(tmp_path):
    config = model_shapes.make_config("Ling-Lite", layers=1, experts=8, divisor=64)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not empty"):
        make_checkpoint.write_checkpoint(tmp_path, config)
