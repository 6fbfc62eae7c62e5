"""Families that mobe factors without running them: what reconstruct writes has the
tensors of the original, in its form, and all but the experts' gate and up as they were.
"""

import itertools
import json
import shutil

import pytest
import torch
from checkpoints import tensors_of
from safetensors.torch import load_file, save_file

HIDDEN, SIZE, EXPERTS, LAYERS = 24, 8, 6, 3
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
NUMBERS = ("w1", "w3", "w2")


def each(block, names):
    """A tensor for each matrix."""

    def tensors(layer, matrices):
        place = block.format(layer)
        for e, expert in enumerate(matrices):
            for name, matrix in zip(names, expert, strict=True):
                yield f"{place}.experts.{e}.{name}.weight", matrix

    return tensors


def stacked(gate_up, down):
    """All experts of a layer in two tensors."""

    def tensors(layer, matrices):
        both = [torch.cat(expert[:2]) for expert in matrices]
        yield gate_up.format(layer), torch.stack(both)
        yield down.format(layer), torch.stack([expert[2] for expert in matrices])

    return tensors


def stacked_each(block):
    """A tensor for each kind (Step 3.7)."""

    def tensors(layer, matrices):
        place = block.format(layer)
        for name, kind in zip(PROJECTIONS, zip(*matrices, strict=True), strict=True):
            yield f"{place}.{name}.weight", torch.stack(kind)

    return tensors


def side_by_side(block):
    """The matrices of an expert transposed, and gate and up beside each other (Llama 4)."""

    def tensors(layer, matrices):
        place = block.format(layer)
        both = [torch.cat(expert[:2]).T for expert in matrices]
        yield f"{place}.gate_up_proj", torch.stack(both)
        yield f"{place}.down_proj", torch.stack([expert[2].T for expert in matrices])

    return tensors


def dbrx(layer, matrices):
    """All experts in a matrix for each kind, down transposed."""
    place = f"transformer.blocks.{layer}.ffn.experts.mlp"
    for name, kind in zip(("w1", "v1", "w2"), zip(*matrices, strict=True), strict=True):
        yield f"{place}.{name}", torch.cat([m.T if name == "w2" else m for m in kind])


def ernie_vl(layer, matrices):
    """Behind the text's experts those of pictures, of another size."""
    block = f"{MLP.format(layer)}.experts"
    yield from each(MLP, PROJECTIONS)(layer, matrices)
    for e, name in itertools.product(range(EXPERTS, 2 * EXPERTS), PROJECTIONS):
        shape = (HIDDEN, SIZE // 2) if name == "down_proj" else (SIZE // 2, HIDDEN)
        yield f"{block}.{e}.{name}.weight", torch.full(shape, 0.5)


def in_turns(block):
    """The same transposed, gate and up in turns (gpt-oss)."""

    def tensors(layer, matrices):
        place = block.format(layer)
        both = [torch.stack(expert[:2], 1).flatten(0, 1).T for expert in matrices]
        yield f"{place}.gate_up_proj", torch.stack(both)
        yield f"{place}.down_proj", torch.stack([expert[2].T for expert in matrices])
        yield f"{place}.gate_up_proj_bias", torch.ones(len(matrices), 2 * SIZE)

    return tensors


MLP = "model.layers.{}.mlp"
TEXT = "model.language_model.layers.{}"
SPARSE = "model.layers.{}.block_sparse_moe"
FORMS = {
    "dots1": ("n_routed_experts", each(MLP, PROJECTIONS)),
    "ernie4_5_moe": ("moe_num_experts", each(MLP, PROJECTIONS)),
    "bailing_hybrid": ("num_experts", each(MLP, PROJECTIONS)),
    "cohere2_moe": ("num_experts", each(MLP, PROJECTIONS)),
    "glm4v_moe": ("n_routed_experts", each(f"{TEXT}.mlp", PROJECTIONS)),
    "glm5_next": ("n_routed_experts", each(f"{TEXT}.mlp", PROJECTIONS)),
    "longcat_flash": ("n_routed_experts", each(MLP, PROJECTIONS)),
    "mellum": ("num_local_experts", each(MLP, PROJECTIONS)),
    "minimax_m3_vl": (
        "num_local_experts",
        each("language_model.model.layers.{}.block_sparse_moe", NUMBERS),
    ),
    "qwen4_exp": ("num_experts", each(f"{TEXT}.mlp", PROJECTIONS)),
    "phimoe": ("num_local_experts", each(SPARSE, NUMBERS)),
    "lfm2_moe": ("num_experts", each("model.layers.{}.feed_forward", NUMBERS)),
    "deepseek_v4": ("n_routed_experts", each("layers.{}.ffn", NUMBERS)),
    "deepseek_v4 saved": ("n_routed_experts", each("model.layers.{}.ffn", NUMBERS)),
    "kimi_k25": (
        "n_routed_experts",
        each("language_model.model.layers.{}.mlp", PROJECTIONS),
    ),
    "kimi_k25 saved": ("n_routed_experts", each(f"{TEXT}.mlp", PROJECTIONS)),
    "jamba": ("num_experts", each("model.layers.{}.feed_forward", PROJECTIONS)),
    "ernie4_5_vl_moe": ("moe_num_experts", ernie_vl),
    "ernie4_5_moe_vl": ("moe_num_experts", ernie_vl),
    "ernie4_5_vl_moe saved": (
        "moe_num_experts",
        stacked(*(f"{TEXT}.mlp.text_moe.experts.{n}_proj" for n in ("gate_up", "down"))),
    ),
    "qwen3_omni_moe": ("num_experts", each("thinker.model.layers.{}.mlp", PROJECTIONS)),
    "qwen3_omni_moe_thinker": ("num_experts", each(MLP, PROJECTIONS)),
    "qwen3_vl_moe": ("num_experts", side_by_side(f"{TEXT}.mlp.experts")),
    "llama4": (
        "num_local_experts",
        side_by_side("language_model.model.layers.{}.feed_forward.experts"),
    ),
    "llama4_text": (
        "num_local_experts",
        side_by_side("model.layers.{}.feed_forward.experts"),
    ),
    "step3p5": ("moe_num_experts", stacked_each("model.layers.{}.moe")),
    "step3p7": ("n_routed_experts", stacked_each("model.layers.{}.moe")),
    "dbrx": ("moe_num_experts", dbrx),
    "granitemoe": (
        "num_local_experts",
        stacked(f"{SPARSE}.input_linear.weight", f"{SPARSE}.output_linear.weight"),
    ),
    "gpt_oss": ("num_local_experts", in_turns(f"{MLP}.experts")),
    "gemma4": (
        "num_experts",
        stacked(f"{TEXT}.experts.gate_up_proj", f"{TEXT}.experts.down_proj"),
    ),
}
# Whose config has the text's sizes inside.
NESTED = ("gemma4", "glm4v_moe", "glm5_next", "kimi_k25", "minimax_m3_vl", "qwen4_exp")
NESTED += ("ernie4_5_vl_moe", "llama4", "qwen3_vl_moe", "qwen3_omni_moe_thinker", "step3p7")


def write_model(folder, form):
    """Experts in all layers but the first, and tensors that mobe knows nothing of."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(shape, generator=generator).bfloat16()

    family = form.split()[0]
    experts_key, tensors_of_layer = FORMS[form]
    text = {
        "hidden_size": HIDDEN,
        "num_layers" if family == "longcat_flash" else "num_hidden_layers": LAYERS,
        "moe_intermediate_size": SIZE,
        experts_key: EXPERTS,
    }
    if family.startswith("ernie4_5") and "vl" in family:
        text |= {"moe_intermediate_size": [SIZE, SIZE // 2], experts_key: [EXPERTS] * 2}
    nested = {"text_config": text} if family in NESTED else text
    if family == "qwen3_omni_moe":
        nested = {"thinker_config": {"text_config": text}, "talker_config": {"hidden_size": 1}}
    if family == "dbrx":
        ffn = {"ffn_hidden_size": SIZE, experts_key: EXPERTS}
        nested = {"d_model": HIDDEN, "n_layers": LAYERS, "ffn_config": ffn}
    tensors = {"model.vision.patch.weight": random(3, 5), "some.router": random(7)}
    for layer in range(1, LAYERS):
        matrices = [
            (random(SIZE, HIDDEN), random(SIZE, HIDDEN), random(HIDDEN, SIZE))
            for _ in range(EXPERTS)
        ]
        tensors |= dict(tensors_of_layer(layer, matrices))
    folder.mkdir()
    config = {"model_type": family, "unknown_key": 0.5} | nested
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(mobe, tmp_path, form):
    original = write_model(tmp_path / "model", form)
    native, plain = tmp_path / "native", tmp_path / "plain"
    mobe("compress", original, native, "--bases", 2, "--passes", 3)
    mobe("verify", native, "--against", original)
    assert mobe("inspect", native, "--json")["runs"] is False
    mobe("reconstruct", native, plain)
    mobe("verify", plain, "--against", original)
    before, after = tensors_of(original), tensors_of(plain)
    assert {n: t.shape for n, t in before.items()} == {
        n: t.shape for n, t in after.items()
    }
    changed = [n for n in before if not torch.equal(before[n], after[n])]
    kinds = ("gate", "up_proj", "w1", "w3", "v1", "input_linear")
    assert changed
    assert all(any(kind in name for kind in kinds) for name in changed)


def nearly_restored(mobe, original, tmp_path):
    """Compressed with as many bases as experts, and reconstructed."""
    native, plain = tmp_path / "native", tmp_path / "plain"
    options = ("--bases", EXPERTS, "--activation", "identity", "--passes", 30)
    mobe("compress", original, native, *options)
    mobe("reconstruct", native, plain)
    return tensors_of(plain)


def check_near(after, before):
    before, after = before.float(), after.float()
    errors = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    assert errors.max() < 0.02


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("granitemoe", f"{SPARSE}.input_linear.weight"),
        ("gpt_oss", f"{MLP}.experts.gate_up_proj"),
        ("qwen3_vl_moe", f"{TEXT}.mlp.experts.gate_up_proj"),
        ("dbrx", "transformer.blocks.{}.ffn.experts.mlp.v1"),
        ("step3p7", "model.layers.{}.moe.up_proj.weight"),
    ],
)
def test_matrices_lie_where_they_lay(mobe, tmp_path, form, name):
    original = write_model(tmp_path / "model", form)
    after = nearly_restored(mobe, original, tmp_path)
    check_near(after[name.format(1)], tensors_of(original)[name.format(1)])


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def test_mxfp4(mobe, tmp_path):
    """As gpt-oss is published: rows as they are, of gate and up in turns."""
    original = write_model(tmp_path / "model", "gpt_oss")
    path = original / "config.json"
    quantised = {"quantization_config": {"quant_method": "mxfp4"}, "hidden_size": 64}
    quantised |= {"moe_intermediate_size": 32}
    path.write_text(json.dumps(json.loads(path.read_text()) | quantised))
    generator = torch.Generator().manual_seed(1)
    tensors, expected = {}, {}
    for layer in range(1, LAYERS):
        for name, rows, cols in (("gate_up_proj", 64, 64), ("down_proj", 64, 32)):
            place = f"{MLP.format(layer)}.experts.{name}"
            shape = (EXPERTS, rows, cols // 32)
            codes = torch.randint(16, (*shape, 16, 2), generator=generator)
            scales = torch.randint(118, 124, shape, generator=generator)
            pairs = codes[..., 0] + 16 * codes[..., 1]
            tensors[f"{place}_blocks"] = pairs.to(torch.uint8)
            tensors[f"{place}_scales"] = scales.to(torch.uint8)
            values = E2M1[codes].flatten(-2) * 2.0 ** (scales[..., None] - 127)
            expected[place] = values.flatten(2).transpose(1, 2)
    save_file(tensors, original / "model.safetensors")
    after = nearly_restored(mobe, original, tmp_path)
    assert after.keys() == expected.keys()
    for name, tensor in expected.items():
        assert after[name].dtype == torch.bfloat16
        if "down" in name:
            assert torch.equal(after[name].float(), tensor)
        check_near(after[name], tensor)
    config = json.loads((tmp_path / "plain/config.json").read_text())
    assert "quantization_config" not in config


def test_what_would_run_says_that_it_cannot(mobe, models, tmp_path):
    folder = write_model(tmp_path / "model", "dots1")
    shutil.copy(models / "mini-qwen3-moe/tokenizer.json", folder)
    sample = models / "mini-qwen3-moe/sample.txt"
    out = tmp_path / "out"
    for command in (
        ("perplexity", folder, sample),
        ("generate", folder, "--prompt", "a"),
        ("doctor", folder),
        ("calibrate", folder, "random", out),
        ("quantize", folder, out, "--format", "int4"),
        ("compress", folder, out, "--format", "int4"),
        ("compress", folder, out, "--calibrate", "random"),
        ("compress", folder, out, "--split", "auto"),
    ):
        assert 'type "dots1", but can\'t run them' in mobe(*command, code=1), command
    assert not out.exists()


def with_quantization(folder, inside, ending):
    """The model's experts in FP8, a scale for each block of 128 x 128."""
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if ".experts." not in name:
            tensors[name] = tensor
            continue
        scale = tensor.abs().max().float() / 448
        tensors[name] = (tensor / scale).to(torch.float8_e4m3fn)
        tensors[name.removesuffix(".weight") + ending] = scale.reshape(1, 1)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    place = config["text_config"] if inside else config
    place["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("form, inside, ending", [
    ("deepseek_v4", False, ".scale"),
    ("kimi_k25", True, ".weight_scale_inv"),
])  # fmt: skip
def test_where_publishers_keep_scales(mobe, tmp_path, form, inside, ending):
    folder = write_model(tmp_path / "model", form)
    with_quantization(folder, inside, ending)
    mobe("compress", folder, tmp_path / "out", "--bases", 2, "--passes", 2)
    mobe("verify", tmp_path / "out", "--against", folder)
    written = load_file(tmp_path / "out/model.safetensors")
    assert not any(tensor.dtype == torch.float8_e4m3fn for tensor in written.values())
    assert "quantization_config" not in (tmp_path / "out/config.json").read_text()


@pytest.mark.parametrize("inside", [False, True])
def test_experts_in_fp4(mobe, tmp_path, inside):
    """As DeepSeek-V4 is published, and as transformers 5 says it."""
    folder = write_model(tmp_path / "model", "deepseek_v4")
    generator = torch.Generator().manual_seed(1)
    tensors, expected = {}, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if ".experts." not in name:
            tensors[name] = tensor
            continue
        rows, cols = (64, 32) if ".w2." in name else (32, 64)
        codes = torch.randint(16, (rows, cols // 32, 16, 2), generator=generator)
        scales = torch.randint(118, 124, (rows, cols // 32), generator=generator)
        pairs = (codes[..., 0] + 16 * codes[..., 1]).flatten(1)
        tensors[name] = pairs.to(torch.uint8).view(torch.int8)
        scale_name = name.removesuffix(".weight") + ".scale"
        tensors[scale_name] = scales.to(torch.uint8).view(torch.float8_e8m0fnu)
        expected[name] = (E2M1[codes].flatten(2) * 2.0 ** (scales[..., None] - 127)).flatten(1)
    save_file(tensors, folder / "model.safetensors")
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 64, "moe_intermediate_size": 32, "quantization_config": fp8}
    (fp8 if inside else config)["expert_dtype"] = "fp4"
    (folder / "config.json").write_text(json.dumps(config))
    assert mobe("inspect", folder, "--json")["bytes"] == sum(
        tensor.numel() * tensor.element_size() for tensor in tensors.values()
    )
    after = nearly_restored(mobe, folder, tmp_path)
    for name, tensor in expected.items():
        assert after[name].dtype == torch.bfloat16
        if ".w2." in name:
            assert torch.equal(after[name].float(), tensor)
        check_near(after[name], tensor)
    assert "fp4" not in (tmp_path / "plain/config.json").read_text()
    # A dtype that nobody has told of.
    config["expert_dtype"] = "fp6"
    (folder / "config.json").write_text(json.dumps(config))
    assert 'expert_dtype "fp6" can\'t be read' in mobe("inspect", folder, code=1)


def test_no_experts(mobe, tmp_path):
    folder = write_model(tmp_path / "model", "dots1")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "phimoe"}))
    message = mobe("inspect", folder, code=1)
    assert "no layer has experts" in message
    assert "block_sparse_moe.experts.0.w1.weight" in message
