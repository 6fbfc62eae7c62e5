"""Checkpoints that their publishers quantised, in the schemes of io/quant_scheme.h:
by a quantiser of our own in torch, against transformers on the weights that they
stand for."""

import json

import pytest
import torch
from checkpoints import load_stock, logits_of, sample_ids, tensors_of
from safetensors.torch import save_file

FP8 = torch.float8_e4m3fn
GROUP = 32


def scales_of(weight, most, dim):
    peak = weight.abs().amax(dim, keepdim=True) if dim else weight.abs().max()[None]
    return (peak / most).clamp_min(1e-12).bfloat16()


def fp8(dim, name):
    def quantise(weight):
        scale = scales_of(weight, 448, dim)
        codes = (weight / scale.float()).to(FP8)
        return codes.float() * scale.float(), {"": codes, name: scale}

    return quantise


def int8(weight):
    scale = scales_of(weight, 127, 1)
    codes = (weight / scale.float()).round().clamp(-128, 127)
    return codes * scale.float(), {"": codes.to(torch.int8), "_scale": scale}


def words(bits):
    """compressed-tensors' pack-quantized: codes from 0, the first one lowest."""

    def quantise(weight):
        rows, cols = weight.shape
        middle = 2 ** (bits - 1)
        groups = weight.reshape(rows, cols // GROUP, GROUP)
        scale = scales_of(groups, middle - 1, 2)
        codes = (groups / scale.float()).round().clamp(-middle, middle - 1)
        plain = (codes * scale.float()).reshape(rows, cols)
        in_word = 32 // bits
        shifted = (codes.reshape(rows, cols // in_word, in_word) + middle).long()
        packed = (shifted << (bits * torch.arange(in_word))).sum(-1)
        return plain, {
            "_packed": packed.to(torch.int32),
            "_scale": scale.reshape(rows, -1),
            "_shape": torch.tensor([rows, cols]),
        }

    return quantise


def compressed_tensors(layout, **weights):
    weights = {"symmetric": True, "dynamic": False, "strategy": "channel"} | weights
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
    }


FP8_CONFIG = {"quant_method": "fp8", "activation_scheme": "dynamic"}
PACKED = {"type": "int", "strategy": "group", "group_size": GROUP}
SCHEMES = {
    "fp8 of a tensor": (FP8_CONFIG, fp8(None, "_scale_inv")),
    "fp8 of rows": (FP8_CONFIG, fp8(1, "_scale")),
    "float-quantized": (
        compressed_tensors("float-quantized", type="float", num_bits=8),
        fp8(1, "_scale"),
    ),
    "int-quantized": (
        compressed_tensors("int-quantized", type="int", num_bits=8),
        int8,
    ),
    "pack-quantized 8": (
        compressed_tensors("pack-quantized", num_bits=8, **PACKED),
        words(8),
    ),
    "pack-quantized 4": (
        compressed_tensors("pack-quantized", num_bits=4, **PACKED),
        words(4),
    ),
}


def write_models(tmp_path, original, scheme):
    """The quantised model, and one in float32 of what its weights stand for."""
    config = json.loads((original / "config.json").read_text())
    said, quantise = SCHEMES[scheme]
    quantised, plain = {}, {}
    for name, tensor in tensors_of(original).items():
        matrix = name.endswith("proj.weight")
        stored = {"": tensor}
        plain[name] = tensor.float()
        if matrix:
            plain[name], stored = quantise(tensor.float())
        for ending, part in stored.items():
            quantised[name + ending] = part.contiguous()
        if matrix and ("int" in scheme or "pack" in scheme):
            plain[name] = plain[name].bfloat16().float()  # as mobe runs integers
    folders = []
    for folder, tensors, extra in (
        ("quantised", quantised, {"quantization_config": said}),
        ("plain", plain, {}),
    ):
        folders.append(tmp_path / folder)
        folders[-1].mkdir()
        (folders[-1] / "config.json").write_text(json.dumps(config | extra))
        metadata = {"format": "pt"}
        save_file(tensors, folders[-1] / "model.safetensors", metadata)
    return folders


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scheme(mobe, data, mobe_logits, tmp_path, scheme):
    quantised, plain = write_models(tmp_path, data / "models/qwen3_moe", scheme)
    ids = sample_ids(512)
    assert (
        mobe_logits(quantised, ids) - logits_of(load_stock(plain), ids)
    ).abs().max() < 1e-3
    native, back = tmp_path / "native", tmp_path / "back"
    mobe("compress", quantised, native, "--bases", 4, "--passes", 2)
    mobe("verify", native, "--against", quantised)
    mobe("reconstruct", native, back)
    mobe("verify", back, "--against", quantised)
    assert "quantization_config" not in json.loads((native / "config.json").read_text())
    copied = tensors_of(native)
    for name, tensor in tensors_of(plain).items():
        if ".experts." not in name:
            assert torch.equal(copied[name].float(), tensor.bfloat16().float()), name
    assert not [n for n in copied if n.endswith(("_scale", "_scale_inv", "_shape"))]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, 'quant_method "gptq" can\'t be read'),
        ({"quant_method": "awq", "bits": 4}, 'quant_method "awq"'),
        ({"quant_method": "mxfp4"}, 'quant_method "mxfp4"'),
        (FP8_CONFIG | {"activation_scheme": "static"}, 'activation_scheme "static"'),
        (compressed_tensors("nvfp4-pack-quantized"), 'format "nvfp4-pack-quantized"'),
        (
            compressed_tensors("pack-quantized", num_bits=4, symmetric=False),
            "symmetric false can't be read",
        ),
        (compressed_tensors("pack-quantized", num_bits=3), "num_bits 3 can't be read"),
    ],
)
def test_others_are_refused_by_name(mobe, data, tmp_path, config, message):
    quantised, _ = write_models(tmp_path, data / "models/qwen3_moe", "pack-quantized 4")
    path = quantised / "config.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"quantization_config": config}))
    assert message in mobe("inspect", quantised, code=1)


@pytest.mark.parametrize(
    ("ending", "tensor", "message"),
    [
        ("_shape", torch.tensor([64, 7]), "expected I32, 8 numbers of shape"),
        ("_shape", torch.tensor([1.0, 2.0]), "expected I32, 8 numbers of shape"),
        ("_scale", torch.ones(3, 5).bfloat16(), "has shape [3, 5], expected"),
        ("_scale", None, "k_proj.weight_scale"),
        ("_zero_point", torch.zeros(3), "only symmetric groups"),
    ],
)
def test_damage(mobe, data, tmp_path, ending, tensor, message):
    quantised, _ = write_models(tmp_path, data / "models/qwen3_moe", "pack-quantized 4")
    tensors = tensors_of(quantised)
    name = f"model.layers.1.self_attn.k_proj.weight{ending}"
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, quantised / "model.safetensors", {"format": "pt"})
    assert message in mobe("inspect", quantised, code=1)
