"""Every family goes the way that Qwen3-MoE goes: what compress writes has the
names that the reference gave it, and what reconstruct writes is a checkpoint of the
stock classes, with the logits of the native run."""

import json

import pytest
import torch
from checkpoints import build, load_stock, logits_of, sample_ids, tensors_of

# The reference's own output, and the options that make ours of the same form.
NATIVE = {
    "deepseek_v3": ("deepseek_v3_mobe", ["--bases", 4, "--activation", "tanh"]),
    "kimi_k2": (
        "kimi_k2_mobe",
        ["--bases", 8, "--groups", 2, "--activation", "silu"],
    ),
    "bailing_moe": ("bailing_moe_mobe", ["--bases", 4, "--activation", "tanh"]),
}
# Families that transformers has classes for. Kimi-K2 is DeepSeek-V3 in all but name.
STOCK = (
    "deepseek_v2",
    "deepseek_v3",
    "glm4_moe",
    "kimi_k2",
    "mixtral",
    "olmoe",
    "qwen2_moe",
    "qwen3_next",
)
# Mixtral's names of an expert's matrices.
MIXTRAL = {"gate": "w1", "up": "w3"}


def compress(mobe, data, family, folder):
    options = NATIVE.get(family, (None, ["--bases", 4, "--activation", "silu"]))[1]
    mobe("compress", data / "models" / family, folder, *options, "--budget", 20)
    return folder


def declared(folder):
    return {name: (t.shape, t.dtype) for name, t in tensors_of(folder).items()}


@pytest.mark.parametrize("family", NATIVE)
def test_tensors_are_the_references(mobe, data, tmp_path, family):
    ours = declared(compress(mobe, data, family, tmp_path / "native"))
    reference = declared(data / "models" / NATIVE[family][0])
    # The reference rounds this one to bfloat16, which moves picks; ours is as in
    # the original.
    for name, (shape, dtype) in list(reference.items()):
        if name.endswith("e_score_correction_bias"):
            assert dtype == torch.bfloat16
            reference[name] = (shape, torch.float32)
    assert ours == reference


@pytest.mark.parametrize("family", NATIVE)
def test_config_gains_keys(mobe, data, tmp_path, family):
    folder = compress(mobe, data, family, tmp_path / "native")
    config = json.loads((folder / "config.json").read_text())
    original = json.loads((data / "models" / family / "config.json").read_text())
    options = NATIVE[family][1]
    added = {"num_B": options[1], "activation": options[-1]}
    added["auto_map"] = {"AutoModelForCausalLM": "modeling_mobe.MobeForCausalLM"}
    if "auto_map" in original:
        added["auto_map"]["AutoConfig"] = "modeling_mobe.MobeConfig"
        added["plain_auto_map"] = original["auto_map"]
    assert config == original | added


def as_stock(folder):
    """Kimi-K2's name is not known to transformers."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if config["model_type"] == "kimi_k2":
        config["model_type"] = "deepseek_v3"
        path.write_text(json.dumps(config))
    model = load_stock(folder)
    if config["model_type"] == "deepseek_v2":
        # transformers 4.57 leaves yarn's mscale^2 out of the softmax scale.
        rope = config["rope_scaling"]
        mscale = 1 + 0.1 * rope["mscale_all_dim"] * torch.tensor(rope["factor"]).log()
        for layer in model.model.layers:
            layer.self_attn.scaling *= mscale.item() ** 2
    return model


def built_experts(folder):
    """The factored matrices in float32, from the stored tensors."""
    tensors = tensors_of(folder)
    activation = json.loads((folder / "config.json").read_text())["activation"]
    for name, alphas in tensors.items():
        block, _, end = name.partition(".W_")  # "gate", or "gate_1" of group 1
        if not end:
            continue
        kind, _, group = end.partition("_")
        bases = tensors[f"{block}.B_{end}"].float()
        matrix = MIXTRAL[kind] if "block_sparse_moe" in block else f"{kind}_proj"
        for e, alpha in enumerate(alphas.float(), int(group or 0) * len(alphas)):
            expert = f"{block}.experts.{e}.{matrix}.weight"
            yield expert, build(tensors[expert].float(), alpha, bases, activation)


@pytest.mark.parametrize("family", STOCK)
def test_stock_classes_give_our_logits(mobe, data, mobe_logits, tmp_path, family):
    native = compress(mobe, data, family, tmp_path / "native")
    plain = tmp_path / "plain"
    mobe("reconstruct", native, plain)
    stock = as_stock(plain)
    ids = sample_ids(stock.config.vocab_size)
    reconstructed = mobe_logits(plain, ids)
    assert (reconstructed - logits_of(stock, ids)).abs().max() < 1e-3
    # What the reconstruction rounds, put back.
    with torch.no_grad():
        for name, expert in built_experts(native):
            stock.get_parameter(name).copy_(expert)
    for mode in ("built", "fused"):
        ours = mobe_logits(native, ids, "--experts", mode)
        assert (ours - logits_of(stock, ids)).abs().max() < 1e-3
