"""One model as transformers 4 and 5 and converters between them write it: the logits
are those of its golden file each time, and compress writes the same factors."""

import json
import math
import re

import pytest
import torch
from checkpoints import load_stock, logits_of, sample_ids, tensors_of
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-3  # as in test_logits.py
MODELS = ("qwen3_moe", "deepseek_v3")
# What transformers 5 calls otherwise than the publishers, whose names it writes by default.
EXPERT_NAMES = {rf"\.experts\.(\d+)\.{old}\.": rf".experts.\1.{new}." for old, new in (
    ("w1", "gate_proj"), ("w3", "up_proj"), ("w2", "down_proj"),
)}  # fmt: skip
BLOCK_NAMES = {r"\.block_sparse_moe\.": ".mlp."} | EXPERT_NAMES
OWN_NAMES = {
    "mixtral": BLOCK_NAMES,
    "minimax_m2": BLOCK_NAMES,
    "hy_v3": {
        r"mlp\.router\.gate": "mlp.gate",
        r"mlp\.expert_bias": "mlp.e_score_correction_bias",
        r"mlp\.shared_mlp": "mlp.shared_experts",
    },
}


def as_it_is(config):
    pass


def theta_inside_scaling(config):
    scaling = config["rope_scaling"] or {"rope_type": "default"}
    config["rope_scaling"] = scaling | {"rope_theta": config.pop("rope_theta")}


def as_transformers_5(config):
    scaling = config.pop("rope_scaling") or {"rope_type": "default"}
    scaling["rope_type"] = scaling.get("rope_type", scaling.get("type"))
    scaling["rope_theta"] = config.pop("rope_theta")
    config["rope_parameters"] = scaling
    config["dtype"] = config.pop("torch_dtype")
    if "num_experts" in config:
        config["num_local_experts"] = config.pop("num_experts")


def numbers_of_python(config):
    config["router_z_loss_limit"] = [-math.inf, math.nan]


FORMS = (theta_inside_scaling, as_transformers_5, numbers_of_python)


def stack_experts(tensors):
    """Each layer's experts in two tensors, as save_original_format=False does it."""
    experts = {}
    for name in list(tensors):
        found = re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)_proj\.weight", name)
        if found:
            layer, expert, kind = found.groups()
            experts.setdefault(layer, {})[kind, int(expert)] = tensors.pop(name)
    for layer, matrices in experts.items():
        count = len(matrices) // 3
        each = [
            torch.cat([matrices["gate", e], matrices["up", e]]) for e in range(count)
        ]
        tensors[f"{layer}.gate_up_proj"] = torch.stack(each)
        down = [matrices["down", e] for e in range(count)]
        tensors[f"{layer}.down_proj"] = torch.stack(down)


def write_model(folder, original, form, stacked=False, names=None):
    """`names`: patterns in names of tensors, and what stands there instead."""
    config = json.loads((original / "config.json").read_text())
    form(config)
    tensors = {}
    for name, tensor in tensors_of(original).items():
        for pattern, replacement in (names or {}).items():
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    if stacked:
        stack_experts(tensors)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("stacked", (False, True), ids=("experts", "stacked"))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", MODELS)
def test_logits(data, mobe_logits, tmp_path, model, form, stacked):
    original = data / "models" / model
    golden = load_file(original / "golden.safetensors")
    folder = write_model(tmp_path / "model", original, form, stacked)
    ours = mobe_logits(folder, golden["input_ids"])
    assert (ours - golden["logits"]).abs().max() < TOLERANCE


SCALINGS = {
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
    "longrope": {
        "short_factor": [1 + 0.1 * i for i in range(16)],
        "long_factor": [1.0 + i for i in range(16)],
        "factor": 8.0,
    },
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_rope_types(data, mobe_logits, tmp_path, kind):
    def scaled(config):
        config["rope_scaling"] = {"rope_type": kind, **SCALINGS[kind]}
        config["max_position_embeddings"] = 512
        if kind == "longrope":
            config["original_max_position_embeddings"] = 64

    folder = write_model(tmp_path / "model", data / "models/qwen3_moe", scaled)
    ids = sample_ids(512, tokens=60)
    plain = mobe_logits(data / "models/qwen3_moe", ids)
    ours = mobe_logits(folder, ids)
    assert (ours - logits_of(load_stock(folder), ids)).abs().max() < TOLERANCE
    assert (ours - plain).abs().max() > 100 * TOLERANCE


def test_longrope_takes_no_more_than_was_trained_with(data, mobe, tmp_path):
    def scaled(config):
        factors = {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16}
        config["rope_scaling"] = {"rope_type": "longrope", **factors}
        config["original_max_position_embeddings"] = 64

    folder = write_model(tmp_path / "model", data / "models/qwen3_moe", scaled)
    (tmp_path / "ids.json").write_text(json.dumps(sample_ids(512, 1, 65).tolist()))
    command = ("logits", folder, "--ids", tmp_path / "ids.json", "--out", tmp_path / "out")
    assert "a context of 65 tokens, expected 1 to 64" in mobe(*command, code=1)


@pytest.mark.parametrize("model", OWN_NAMES)
def test_names_of_transformers_5(mobe, mobe_logits, data, tmp_path, model):
    original = data / "models" / model
    names = OWN_NAMES[model]
    folder = write_model(tmp_path / "model", original, as_it_is, stacked=True, names=names)
    golden = load_file(original / "golden.safetensors")
    ours = mobe_logits(folder, golden["input_ids"])
    assert (ours - golden["logits"]).abs().max() < TOLERANCE
    mobe("compress", folder, tmp_path / "out", "--bases", 4, "--budget", 1)
    mobe("verify", tmp_path / "out", "--against", folder)
    factors = tensors_of(tmp_path / "out").values()
    mobe("compress", original, tmp_path / "same", "--bases", 4, "--budget", 1)
    for tensor in tensors_of(tmp_path / "same").values():
        assert any(torch.equal(tensor, other) for other in factors)


@pytest.mark.parametrize("model", MODELS)
def test_compress(mobe, data, tmp_path, model):
    original = data / "models" / model
    folder = write_model(tmp_path / "model", original, as_transformers_5, stacked=True)
    outputs = []
    for name, source in (("from_4", original), ("from_5", folder)):
        out = tmp_path / name
        mobe("compress", source, out, "--bases", 4, "--budget", 1)
        mobe("verify", out, "--against", source)
        outputs.append(tensors_of(out))
    assert outputs[0].keys() == outputs[1].keys()
    for name, tensor in outputs[0].items():
        assert torch.equal(tensor, outputs[1][name]), name


def test_what_python_wrote_is_kept(mobe, data, tmp_path):
    original = data / "models/qwen3_moe"
    folder = write_model(tmp_path / "model", original, numbers_of_python)
    out = tmp_path / "out"
    mobe("compress", folder, out, "--bases", 4, "--budget", 1)
    mobe("verify", out, "--against", folder)
    limits = json.loads((out / "config.json").read_text())["router_z_loss_limit"]
    assert limits[0] == -math.inf
    assert math.isnan(limits[1])
