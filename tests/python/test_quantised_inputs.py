"""Checkpoints that their publishers quantised, in the schemes of io/quant_scheme.h:
by a quantiser of our own in torch, against transformers on the weights that they
stand for. A quantiser gives these weights and the tensors that stand in place of
X.weight, by what follows "X."."""

import json

import numpy as np
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
        return codes.float() * scale.float(), {"weight": codes, name: scale}

    return quantise


def int8(weight):
    scale = scales_of(weight, 127, 1)
    codes = (weight / scale.float()).round().clamp(-128, 127)
    return codes * scale.float(), {
        "weight": codes.to(torch.int8),
        "weight_scale": scale,
    }


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
            "weight_packed": packed.to(torch.int32),
            "weight_scale": scale.reshape(rows, -1),
            "weight_shape": torch.tensor([rows, cols]),
        }

    return quantise


AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def packed(codes, bits, order=None):
    """Codes [a, b] in words along b, in the order given, lowest first."""
    in_word = 32 // bits
    apart = codes.astype(np.uint32).reshape(len(codes), -1, in_word)
    if order:
        apart = apart[:, :, order]
    words = (apart << (bits * np.arange(in_word, dtype=np.uint32))).sum(2)
    return words.astype(np.uint32)


def unpacked(words, bits, order=None):
    shifts = bits * np.arange(32 // bits, dtype=np.uint32)
    codes = (words[:, :, None] >> shifts & (2**bits - 1)).astype(np.int32)
    if order:
        codes = codes[:, :, np.argsort(order)]
    return codes.reshape(len(words), -1)


def dequantised(codes, zeros, scales, groups):
    """All by inputs [in, out], as AutoAWQ and GPTQModel have them."""
    return torch.from_numpy(((codes - zeros[groups]) * scales[groups].astype(np.float32)).T)


def affine(weight, bits, groups, symmetric):
    """Codes [in, out]; zeros and scales [groups, out]."""
    by_input = weight.numpy().T
    scales, zeros = [], []
    most = 2**bits - 1
    for group in range(groups.max() + 1):
        part = by_input[groups == group]
        low, high = np.minimum(part.min(0), 0), np.maximum(part.max(0), 0)
        if symmetric:
            high = np.maximum(-low, high)
            low = -high
        scale = np.maximum((high - low) / most, 1e-6).astype(np.float16)
        zero = np.full(len(scale), (most + 1) // 2)
        if not symmetric:
            zero = np.clip(np.round(-low / scale), 0, most)
        scales.append(scale)
        zeros.append(zero.astype(np.int32))
    scales, zeros = np.stack(scales), np.stack(zeros)
    codes = np.round(by_input / scales[groups].astype(np.float32)) + zeros[groups]
    return np.clip(codes, 0, most).astype(np.int32), zeros, scales


def to_torch(tensors):
    signed = {np.dtype(np.uint32): np.int32}
    return {
        name: torch.from_numpy(t.view(signed.get(t.dtype, t.dtype)).copy())
        for name, t in tensors.items()
    }


def awq(group):
    def quantise(weight):
        groups = np.arange(weight.shape[1]) // (group or weight.shape[1])
        codes, zeros, scales = affine(weight, 4, groups, symmetric=False)
        stored = {
            "qweight": packed(codes, 4, AWQ_ORDER),
            "qzeros": packed(zeros, 4, AWQ_ORDER),
            "scales": scales,
        }
        plain = dequantised(
            unpacked(stored["qweight"], 4, AWQ_ORDER),
            unpacked(stored["qzeros"], 4, AWQ_ORDER),
            stored["scales"],
            groups,
        )
        return plain.float().contiguous(), to_torch(stored)

    return quantise


def gptq(group, bits=4, version=1, act_order=False, symmetric=False, index=True):
    ones = np.uint32(sum(1 << bits * i for i in range(32 // bits)))

    def quantise(weight):
        cols = weight.shape[1]
        groups = np.arange(cols) // (group or cols)
        if act_order:
            groups = np.random.default_rng(cols).permutation(groups)
        codes, zeros, scales = affine(weight, bits, groups, symmetric)
        words = packed(zeros, bits)
        # GPTQModel takes the 1 from whole words: a zero of 0 borrows.
        words = words - ones if version == 1 else words
        stored = {
            "qweight": packed(codes.T, bits).T,
            "qzeros": words,
            "scales": scales,
            "bias": np.zeros(len(weight), np.float16),  # as AutoGPTQ
        }
        if index:
            stored["g_idx"] = groups.astype(np.int32)
        read = stored["qzeros"] + ones if version == 1 else stored["qzeros"]
        plain = dequantised(
            unpacked(stored["qweight"].T, bits).T, unpacked(read, bits), scales, groups
        )
        return plain.float().contiguous(), to_torch(stored)

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
# As AutoAWQ, AutoGPTQ and GPTQModel write them.
AWQ_CONFIG = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": GROUP,
    "version": "gemm",
    "zero_point": True,
    "modules_to_not_convert": ["mlp.gate"],
}
GPTQ_CONFIG = {
    "quant_method": "gptq",
    "bits": 4,
    "group_size": GROUP,
    "checkpoint_format": "gptq",
    "damp_percent": 0.01,
    "desc_act": False,
    "dynamic": {"-:.*mlp.gate.*": {}},
    "lm_head": False,
    "meta": {"quantizer": ["gptqmodel:2.2.0"], "static_groups": False},
    "pack_dtype": "int32",
    "sym": True,
    "true_sequential": True,
}
SCHEMES = {
    "fp8 of a tensor": (FP8_CONFIG, fp8(None, "weight_scale_inv")),
    "fp8 of rows": (FP8_CONFIG, fp8(1, "weight_scale")),
    "float-quantized": (
        compressed_tensors("float-quantized", type="float", num_bits=8),
        fp8(1, "weight_scale"),
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
    "awq int": (AWQ_CONFIG, awq(GROUP)),
    "awq int of whole rows": (AWQ_CONFIG | {"group_size": -1, "version": "GEMM"}, awq(0)),
    "gptq int": (GPTQ_CONFIG, gptq(GROUP, symmetric=True)),
    "gptq int of whole rows": (GPTQ_CONFIG | {"group_size": -1}, gptq(0)),
    "gptq int with zeros": (GPTQ_CONFIG | {"sym": False}, gptq(GROUP)),
    "gptq int without g_idx": (GPTQ_CONFIG, gptq(GROUP, index=False)),
    "gptq int in the order of activations": (
        GPTQ_CONFIG | {"desc_act": True},
        gptq(GROUP, act_order=True),
    ),
    "gptq_v2 int": (
        GPTQ_CONFIG | {"checkpoint_format": "gptq_v2", "format": "gptq_v2"},
        gptq(GROUP, version=2),
    ),
    "gptq int of 8 bits": (GPTQ_CONFIG | {"bits": 8}, gptq(GROUP, bits=8)),
}


def write_models(tmp_path, original, scheme):
    """The quantised model, and one in float32 of what its weights stand for."""
    config = json.loads((original / "config.json").read_text())
    said, quantise = SCHEMES[scheme]
    quantised, plain = {}, {}
    for name, tensor in tensors_of(original).items():
        matrix = name.endswith("proj.weight")
        stored = {"weight": tensor}
        plain[name] = tensor.float()
        if matrix:
            plain[name], stored = quantise(tensor.float())
        for ending, part in stored.items():
            quantised[name.removesuffix("weight") + ending] = part.contiguous()
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
    assert (mobe_logits(quantised, ids) - logits_of(load_stock(plain), ids)).abs().max() < 1e-3
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
    endings = ("_scale", "_scale_inv", "_shape", "qweight", "qzeros", ".scales", "bias", "g_idx")
    assert not [n for n in copied if n.endswith(endings)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "auto-round", "bits": 4}, 'quant_method "auto-round" can\'t be read'),
        (GPTQ_CONFIG | {"bits": 3}, "bits 3 can't be read"),
        (GPTQ_CONFIG | {"checkpoint_format": "gptq_p"}, 'checkpoint_format "gptq_p"'),
        (GPTQ_CONFIG | {"format": "marlin"}, 'format "marlin" can\'t be read'),
        (GPTQ_CONFIG | {"is_marlin_format": True}, 'the key "is_marlin_format"'),
        (GPTQ_CONFIG | {"pack_dtype": "int8"}, 'pack_dtype "int8"'),
        (GPTQ_CONFIG | {"dynamic": {"+:.*down.*": {"bits": 8}}}, "dynamic {"),
        (GPTQ_CONFIG | {"rotation": "hadamard"}, 'the key "rotation"'),
        (GPTQ_CONFIG | {"group_size": 0}, '"group_size" is 0'),
        (AWQ_CONFIG | {"version": "gemv"}, 'version "gemv" can\'t be read'),
        (AWQ_CONFIG | {"bits": 8}, "bits 8 can't be read"),
        (AWQ_CONFIG | {"backend": "llm-awq"}, 'backend "llm-awq"'),
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


WORDS = "pack-quantized 4"


def int32(*shape):
    return torch.zeros(shape, dtype=torch.int32)


@pytest.mark.parametrize(
    ("scheme", "ending", "tensor", "message"),
    [
        (WORDS, "weight_shape", torch.tensor([64, 7]), "expected I32, 8 numbers of shape"),
        (WORDS, "weight_shape", torch.tensor([1.0, 2.0]), "expected I32, 8 numbers of shape"),
        (WORDS, "weight_scale", torch.ones(3, 5).bfloat16(), "has shape [3, 5], expected"),
        (WORDS, "weight_scale", None, "k_proj.weight_scale"),
        (WORDS, "weight_zero_point", torch.zeros(3), "only symmetric groups"),
        ("awq int", "qweight", torch.zeros(64, 8), "is F32 of shape [64, 8], expected a matrix"),
        ("awq int", "qweight", int32(64, 16), "of shape [2, 8], expected I32 of shape [2, 16]"),
        ("awq int", "qzeros", int32(3, 8), "of shape [3, 8], expected I32 of shape [2, 8]"),
        ("awq int", "scales", torch.ones(2, 4).half(), "expected F16 of shape [2, 64]"),
        ("awq int", "scales", int32(2, 64), "is I32 of shape [2, 64], expected F16"),
        ("awq int", "scales", None, "k_proj.scales"),
        (
            "gptq int",
            "qweight",
            int32(8, 68),
            "has 68 rows, and zeros can be read of multiples of 8",
        ),
        ("gptq int", "qweight", int32(0, 64), "of shape [0, 64], expected a matrix"),
        ("gptq int", "qzeros", None, "k_proj.qzeros"),
        ("gptq int", "g_idx", int32(63), "of shape [63], expected I32 of shape [64]"),
        ("gptq int", "weight", torch.zeros(64, 64), "are both there"),
        ("gptq int", "bias", torch.ones(64).half(), 'k_proj.bias" is of no kind'),
    ],
)
def test_damage(mobe, data, tmp_path, scheme, ending, tensor, message):
    quantised, _ = write_models(tmp_path, data / "models/qwen3_moe", scheme)
    tensors = tensors_of(quantised)
    name = f"model.layers.1.self_attn.k_proj.{ending}"
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, quantised / "model.safetensors", {"format": "pt"})
    assert message in mobe("inspect", quantised, code=1)


@pytest.mark.parametrize("group", [-1, 2])
def test_group_of_a_column(mobe, data, tmp_path, group):
    quantised, _ = write_models(tmp_path, data / "models/qwen3_moe", "gptq int")
    tensors = tensors_of(quantised)
    name = "model.layers.1.mlp.experts.3.up_proj.g_idx"
    tensors[name][5] = group
    save_file(tensors, quantised / "model.safetensors", {"format": "pt"})
    message = f'tensor "{name}": the group of column 5 is {group}, expected 0 to 1'
    assert message in mobe("compress", quantised, tmp_path / "native", "--bases", 4, code=1)
    (tmp_path / "ids.txt").write_text("1 2 3")
    logits = "logits", quantised, "--ids", tmp_path / "ids.txt", "--out", tmp_path / "x"
    assert message in mobe(*logits, code=1)
