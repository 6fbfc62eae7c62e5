"""FP8 checkpoints, by an expansion of our own in torch: what compress takes over,
what it keeps, and that what reconstruct writes loads in transformers."""

import json

import pytest
import torch
from checkpoints import FLOAT32, logits_of, sample_ids, tensors_of
from transformers import AutoModelForCausalLM

FP8 = torch.float8_e4m3fn
OPTIONS = ["--bases", 4, "--passes", 5, "--layers", 2]
FACTORED = "model.layers.2.mlp.experts."
MTP = "model.layers.3."  # multi-token prediction: not run, taken over


@pytest.fixture(scope="module")
def original(data):
    return data / "models/deepseek_v3_fp8"


@pytest.fixture(scope="module")
def before(original):
    return tensors_of(original)


@pytest.fixture(scope="module")
def folders(mobe, original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp8")
    mobe("compress", original, folder / "bf16", *OPTIONS)
    mobe("compress", original, folder / "kept", *OPTIONS, "--keep-fp8")
    return folder


def expand(weight, scales, block=128):
    """The values of an FP8 matrix."""
    scales = scales.repeat_interleave(block, 0).repeat_interleave(block, 1)
    rows, columns = weight.shape
    return weight.float() * scales[:rows, :columns]


def is_factored(name):
    name = name.removesuffix("_scale_inv")
    return name.startswith(FACTORED) and not name.endswith("down_proj.weight")


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_default_is_bfloat16(mobe, folders, original, before):
    after = tensors_of(folders / "bf16")
    compared = 0
    for name, tensor in before.items():
        if name.endswith("_scale_inv"):
            assert name not in after
        elif tensor.dtype == FP8:
            assert after[name].dtype == torch.bfloat16
            if is_factored(name):
                continue
            want = expand(tensor, before[name + "_scale_inv"]).bfloat16()
            assert torch.equal(after[name], want), name
            compared += name.startswith(MTP)
        else:
            assert torch.equal(after[name], tensor), name
    assert compared > 0
    assert "quantization_config" not in config_of(folders / "bf16")
    report = mobe("verify", folders / "bf16", "--against", original, "--json")
    assert report["ok"]


def test_kept_is_fp8_and_says_so(mobe, folders, original, before):
    after = tensors_of(folders / "kept")
    for name, tensor in before.items():
        if is_factored(name):
            continue
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name].view(torch.uint8), tensor.view(torch.uint8))
    config = config_of(folders / "kept")["quantization_config"]
    plain = set(config.pop("modules_to_not_convert"))
    assert config == config_of(original)["quantization_config"]
    for name, tensor in after.items():
        if name.endswith(".weight") and tensor.dim() == 2:
            assert (tensor.dtype == FP8) == (name.removesuffix(".weight") not in plain)
    report = mobe("verify", folders / "kept", "--against", original, "--json")
    assert report["ok"]
    inspected = mobe("inspect", folders / "kept", "--json")
    fp8 = {n: t.numel() for n, t in after.items() if t.dtype == FP8 and MTP not in n}
    assert inspected["fp8_parameters"] == sum(fp8.values())


def test_shares_merge_to_the_same(mobe, folders, original, tmp_path):
    parts = [tmp_path / "0", tmp_path / "1"]
    for i, part in enumerate(parts):
        mobe("compress", original, part, *OPTIONS, "--keep-fp8", "--shard", f"{i}/2")
    mobe("merge", original, tmp_path / "merged", *parts)
    for file in (folders / "kept").iterdir():
        assert (tmp_path / "merged" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("form", ["bf16", "kept"])
def test_reconstructed_loads_in_transformers(mobe, folders, mobe_logits, tmp_path, form):
    mobe("reconstruct", folders / form, tmp_path / "plain")
    stock, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", output_loading_info=True, **FLOAT32
    )
    # transformers passes over this layer by its number in the real model, 61.
    unexpected = info.pop("unexpected_keys")
    assert all(name.startswith(MTP) for name in unexpected)
    assert not any(info.values()), info
    ids = sample_ids(stock.config.vocab_size)
    ours = mobe_logits(tmp_path / "plain", ids)
    assert (ours - logits_of(stock.eval(), ids)).abs().max() < 1e-3
