"""Native folders in transformers by modeling_mobe.py, which `compress` puts beside them.
scripts/interop.sh runs this file in another version of transformers, too."""

import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from checkpoints import load_stock, logits_of, sample_ids, tensors_of
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file
from test_quantize import decode
from test_quantised_inputs import write_models
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-3
FLOAT32 = {"dtype": torch.float32, "attn_implementation": "eager"}
MAJOR = int(transformers.__version__.split(".")[0])
# transformers 4.57 has no such models; or computes them otherwise (docs/families.md).
ONLY_5 = ("minimax_m2", "hy_v3", "deepseek_v2", "glm4_moe", "qwen3_5_moe")
EVERYTHING = ["--kinds", "gate,up,down", "--rank", 24, "--basis-rank", 9, "--bases", 6]
EVERYTHING += ["--alphas", 3, "--activation", "identity"]
CASES = {
    "reference": ("qwen3_moe", ["--bases", 4]),
    "some": ("qwen3_moe", ["--kinds", "gate,down", "--layers", 2, "--bases", 4]),
    "groups": ("qwen3_moe", ["--kinds", "up,down", "--groups", 4, "--bases", 8]),
    "everything": ("qwen3_moe", EVERYTHING),
    "deepseek_v2": ("deepseek_v2", ["--bases", 4]),
    "deepseek_v3": ("deepseek_v3", ["--bases", 4, "--activation", "tanh"]),
    "fp8": ("deepseek_v3_fp8", ["--bases", 2, "--keep-fp8"]),
    "kimi_k2": ("kimi_k2", ["--bases", 8, "--groups", 2]),
    "mixtral": ("mixtral", ["--bases", 2]),
    "minimax_m2": ("minimax_m2", ["--bases", 2]),
    "qwen2_moe": ("qwen2_moe", ["--bases", 2]),
    "olmoe": ("olmoe", ["--bases", 2]),
    "glm4_moe": ("glm4_moe", ["--bases", 2]),
    "hy_v3": ("hy_v3", ["--bases", 2]),
    "qwen3_next": ("qwen3_next", ["--bases", 2]),
    "qwen3_5_moe": ("qwen3_5_moe", ["--bases", 2]),
}


def load(folder, **options):
    options = FLOAT32 | options
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options)


@pytest.fixture(scope="module")
def modeling():
    """The file as a module, as who copies it beside older folders has it."""
    spec = importlib.util.spec_from_file_location(
        "modeling_mobe", REPOSITORY / "python/mobe/modeling_mobe.py"
    )
    module = sys.modules["modeling_mobe"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compressed(mobe, data, tmp_path_factory):
    """Folders by their names in CASES, each made once."""
    made = {}

    def make(case):
        if case not in made:
            model, options = CASES[case]
            made[case] = tmp_path_factory.mktemp("modeling") / case
            mobe("compress", data / "models" / model, made[case], *options, "--budget", 3)
        return made[case]

    return make


def test_the_file_is_short():
    assert len((REPOSITORY / "python/mobe/modeling_mobe.py").read_text().splitlines()) < 250


@pytest.mark.parametrize("case", CASES)
def test_gives_our_logits(case, compressed, mobe_logits):
    if MAJOR == 4 and case in ONLY_5:
        pytest.skip("transformers 4 has no such class, or computes otherwise")
    folder = compressed(case)
    model = load(folder)
    ids = sample_ids(model.config.vocab_size)
    ours = mobe_logits(folder, ids)
    assert (logits_of(model, ids) - ours).abs().max() < TOLERANCE
    built = load(folder, mobe_experts="built")
    assert not any("B_gate" in name for name, _ in built.named_parameters())
    assert (logits_of(built, ids) - ours).abs().max() < TOLERANCE


def divergence(base, folder, dtype, ids):
    """KL divergence of a folder's predictions in a dtype, in nats a token."""
    logits = logits_of(load(folder, dtype=dtype), ids)[0].float()
    assert logits.isfinite().all()
    base = base.log_softmax(-1)
    return float((base.exp() * (base - logits.log_softmax(-1))).sum(-1).mean())


def test_float16(mobe, models, tmp_path):
    """Bases are small numbers, so float16 holds them; it rounds less than bfloat16."""
    original, folder = models / "mini-qwen3-moe", tmp_path / "out"
    mobe("compress", original, folder, "--bases", 8, "--budget", 20)
    tokenizer = AutoTokenizer.from_pretrained(original)
    text = (original / "sample.txt").read_text()
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :512]
    base = logits_of(load_stock(original), ids)[0]
    half = divergence(base, folder, torch.float16, ids)
    assert half < 1.1 * divergence(base, folder, torch.bfloat16, ids)


@pytest.mark.parametrize(
    "folder, name",
    [
        ("qwen3_mobe", "Qwen3MoBEForCausalLM"),
        ("deepseek_v3_mobe", "DeepseekV3MoBEForCausalLM"),
        ("kimi_k2_mobe", "KimiK2MoBEForCausalLM"),
    ],
)
def test_what_the_reference_wrote(folder, name, modeling, data):
    folder = data / "models" / folder
    model = getattr(modeling, name).from_pretrained(folder, **FLOAT32)
    golden = load_file(folder / "golden.safetensors")
    difference = logits_of(model, golden["input_ids"]) - golden["logits"]
    assert difference.abs().max() < TOLERANCE


def decode_bases(codes, scales):
    """src/tensor/packed_bases.h in numpy."""
    rank, blocks, _ = codes.shape
    bases = scales.shape[2]
    codes = codes.reshape(rank, blocks, -1, 16, 4).astype(np.float32) - 128
    codes = codes.transpose(2, 4, 0, 1, 3).reshape(-1, rank, blocks * 16)[:bases]
    scales = np.repeat(scales.transpose(2, 0, 1), 256, axis=2)
    return codes * scales[:, :, : codes.shape[2]]


def unpack(source, packed, out):
    """The folder `packed`, made of `source`, without packed tensors: mobe runs that with
    inputs that are not rounded."""
    out.mkdir()
    tensors = tensors_of(packed)
    plain = {}
    for name, tensor in tensors_of(source).items():
        plain[name] = tensor.float()
        for form in ("int8", "int4", "int3"):
            if f"{name}.{form}" in tensors:
                codes = tensors[f"{name}.{form}"].numpy()
                scales = tensors[f"{name}.{form}.scales"].float().numpy()
                if form != "int8" or tensor.dim() == 2:
                    rows = tensor.numel() // tensor.shape[-1]
                    values = decode(codes, scales, rows, tensor.shape[-1], form)
                    values = values.reshape(tensor.shape)
                else:
                    values = decode_bases(codes, scales)[:, :, : tensor.shape[2]]
                plain[name] = torch.from_numpy(values).contiguous()
    save_file(plain, out / "model.safetensors")
    shutil.copy(source / "config.json", out)
    return out


@pytest.mark.parametrize(
    "case, form, options",
    [
        ("reference", "int8", ()),
        ("reference", "int4", ("--part-formats", "bases.0-1=int3,a.1=int8")),
        ("everything", "int4", ()),
        ("mixtral", "int3", ()),
    ],
)
def test_quantised(case, form, options, compressed, mobe, mobe_logits, tmp_path):
    folder = compressed(case)
    mobe("quantize", folder, tmp_path / "q", "--format", form, *options)
    plain = unpack(folder, tmp_path / "q", tmp_path / "plain")
    small = load(tmp_path / "q", dtype=torch.bfloat16)
    stored = sum(p.numel() * p.element_size() for p in small.parameters())
    assert stored <= (tmp_path / "q/model.safetensors").stat().st_size
    model = load(tmp_path / "q")
    ids = sample_ids(model.config.vocab_size)
    ours = mobe_logits(plain, ids)
    assert (logits_of(model, ids) - ours).abs().max() < TOLERANCE
    built = load(tmp_path / "q", mobe_experts="built")
    assert (logits_of(built, ids) - ours).abs().max() < TOLERANCE


# As in the bundled model, whose head is its embedding.
def test_quantised_and_tied(mobe, models, data, tmp_path, mobe_logits):
    config = json.loads((data / "models/qwen3_moe/config.json").read_text())
    tensors = tensors_of(data / "models/qwen3_moe")
    del tensors["lm_head.weight"]
    (tmp_path / "tied").mkdir()
    config["tie_word_embeddings"] = True
    (tmp_path / "tied/config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "tied/model.safetensors")
    mobe("quantize", tmp_path / "tied", tmp_path / "q", "--format", "int8")
    plain = unpack(tmp_path / "tied", tmp_path / "q", tmp_path / "plain")
    ids = sample_ids(config["vocab_size"])
    difference = logits_of(load(tmp_path / "q"), ids) - mobe_logits(plain, ids)
    assert difference.abs().max() < TOLERANCE


@pytest.mark.parametrize("scheme", ["fp8 of a tensor", "fp8 of rows"])
def test_fp8_without_blocks(scheme, mobe, mobe_logits, data, tmp_path):
    original, _ = write_models(tmp_path, data / "models/qwen3_moe", scheme)
    options = ["--bases", 4, "--passes", 2, "--keep-fp8"]
    mobe("compress", original, tmp_path / "small", *options)
    model = load(tmp_path / "small")
    assert any(weight.dtype == torch.float8_e4m3fn for weight in model.parameters())
    ids = sample_ids(model.config.vocab_size)
    difference = logits_of(model, ids) - mobe_logits(tmp_path / "small", ids)
    assert difference.abs().max() < TOLERANCE


@pytest.mark.parametrize("case", ["reference", "deepseek_v3"])
def test_offloaded(case, compressed, tmp_path):
    folder = compressed(case)
    options = {"device_map": "auto", "offload_folder": tmp_path}
    half = (folder / "model.safetensors").stat().st_size
    model = load(folder, max_memory={"cpu": half}, **options)
    assert any(weight.is_meta for weight in model.parameters())
    ids = sample_ids(model.config.vocab_size)
    assert logits_of(model, ids).equal(logits_of(load(folder), ids))


# Families that mobe factors and does not run, and what their configs have beside SIZES.
SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEADS = {"head_dim": 8}
ATTENTION = {"layer_types": ["full_attention"] * 2}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8}
LATENT |= {
    "num_key_value_heads": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 0,
    "mlp_layer_types": ["sparse"] * 2,
}
FACTORED_ONLY = {
    "afmoe": HEADS | {"num_dense_layers": 0},
    "dots1": HEADS | {"first_k_dense_replace": 0, "n_shared_experts": 1},
    "ernie4_5_moe": HEADS | {"moe_layer_start_index": 0},
    "exaone_moe": HEADS | {"first_k_dense_replace": 0},
    "flex_olmo": {},
    "glm4_moe_lite": LATENT,
    "granitemoe": {},
    "granitemoehybrid": {
        "shared_intermediate_size": 16,
        "mamba_n_heads": 4,
        "layer_types": ["mamba", "attention"],
    },
    "granitemoeshared": {"shared_intermediate_size": 16},
    "hunyuan_v1_moe": HEADS,
    "jamba": {
        "use_mamba_kernels": False,
        "expert_layer_offset": 0,
        "expert_layer_period": 1,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_dt_rank": 4,
        "mamba_d_state": 4,
    },
    "lfm2_moe": ATTENTION | {"num_dense_layers": 0},
    "mimo_v2_flash": HEADS,
    "minimax": HEADS | ATTENTION | {"block_size": 16},
    "phimoe": {},
    "solar_open": HEADS | {"first_k_dense_replace": 0},
}


@torch.no_grad()
def save_random(family, folder):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SIZES | FACTORED_ONLY[family]))
    model = AutoModelForCausalLM.from_config(config).float()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(std=0.2)
    model.save_pretrained(folder)


@pytest.mark.parametrize("family", FACTORED_ONLY)
def test_families_that_are_only_factored(family, mobe, tmp_path):
    if family not in CONFIG_MAPPING:
        pytest.skip("transformers 4 has no such class")
    save_random(family, tmp_path / "model")
    mobe("compress", tmp_path / "model", tmp_path / "small", "--bases", 2, "--passes", 2)
    mobe("reconstruct", tmp_path / "small", tmp_path / "plain")
    ids = sample_ids(SIZES["vocab_size"])
    expected = logits_of(load_stock(tmp_path / "plain"), ids)
    for how in ("factored", "built"):
        model = load(tmp_path / "small", mobe_experts=how).eval()
        assert (logits_of(model, ids) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("family", ["dbrx", "gpt_oss", "llama4_text", "qwen3_vl_moe"])
def test_refuses_what_it_has_no_class_for(family, compressed, tmp_path):
    shutil.copytree(compressed("reference"), tmp_path / "model")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": family}))
    with pytest.raises(ValueError, match="no class for it; `mobe reconstruct`"):
        load(tmp_path / "model")


def check_generates(path, from_pretrained, offload_folder):
    """The example of the published models' card."""
    # The names are in the configs of the published tokenizers.
    names = ["input_ids", "attention_mask"]
    tokenizer = AutoTokenizer.from_pretrained(path, model_input_names=names)
    tokenizer.pad_token = tokenizer.eos_token
    max_memory = {i: "120GiB" for i in range(torch.cuda.device_count())}
    max_memory["cpu"] = "1200GiB"
    model = from_pretrained(
        path,
        device_map="auto",
        offload_folder=offload_folder,
        offload_state_dict=True,
        torch_dtype=torch.bfloat16,
        max_memory=max_memory,
    )
    inputs = tokenizer("Artificial intelligence is", return_tensors="pt")
    inputs = inputs.to("cuda" if torch.cuda.is_available() else "cpu")
    with torch.no_grad():
        outputs = model.generate(
            **inputs,
            max_new_tokens=128,
            do_sample=True,
            temperature=0.7,
            pad_token_id=tokenizer.eos_token_id,
        )
    assert len(outputs[0]) > len(inputs.input_ids[0])
    assert tokenizer.decode(outputs[0], skip_special_tokens=True)


def test_example_of_the_card(compressed, modeling, tmp_path):
    def auto(path, **options):
        return AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, **options)

    folder = compressed("reference")
    check_generates(folder, auto, tmp_path)
    check_generates(folder, modeling.Qwen3MoBEForCausalLM.from_pretrained, tmp_path)


# As Ling's code, it has no GenerationMixin, which classes had of themselves before 4.50.
OWN_CODE = """
from torch import nn
from transformers import Qwen3MoeConfig, Qwen3MoeModel, Qwen3MoePreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class OwnConfig(Qwen3MoeConfig):
    model_type = "own_moe"


class OwnForCausalLM(Qwen3MoePreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = Qwen3MoeModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def prepare_inputs_for_generation(self, input_ids, **options):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **options):
        states = self.model(input_ids, use_cache=False).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(states))
"""


def test_models_with_code_of_their_own(data, tmp_path):
    golden = load_file(data / "models/qwen3_mobe/golden.safetensors")
    config = json.loads((data / "models/qwen3_mobe/config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    ours = {
        "AutoConfig": "modeling_mobe.MobeConfig",
        "AutoModelForCausalLM": "modeling_mobe.MobeForCausalLM",
    }
    config |= {"model_type": "own_moe", "auto_map": ours, "plain_auto_map": classes}
    (tmp_path / "own.py").write_text(OWN_CODE)
    shutil.copy(REPOSITORY / "python/mobe/modeling_mobe.py", tmp_path)
    shutil.copy(data / "models/qwen3_mobe/model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load(tmp_path)
    assert "OwnForCausalLM" in [base.__name__ for base in type(model).__mro__]
    difference = logits_of(model, golden["input_ids"]) - golden["logits"]
    assert difference.abs().max() < TOLERANCE
    said = model.generate(golden["input_ids"][:1], max_new_tokens=1, do_sample=False)
    assert said[0, -1] == golden["logits"][0, -1].argmax()

    del classes["AutoModelForCausalLM"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no class for it; `mobe reconstruct`"):
        load(tmp_path)


def test_refuses_what_it_does_not_know(compressed, tmp_path):
    shutil.copytree(compressed("everything"), tmp_path / "model")
    path = tmp_path / "model/config.json"
    config = json.loads(path.read_text())
    config["mobe"]["version"] = 4
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="version 4 of the format, expected up to 3"):
        load(tmp_path / "model")


def test_verify_knows_the_file(compressed, mobe, data, tmp_path):
    original = data / "models/kimi_k2"
    shutil.copytree(compressed("kimi_k2"), tmp_path / "small")
    mobe("verify", tmp_path / "small", "--against", original)
    with open(tmp_path / "small/modeling_mobe.py", "a") as file:
        file.write("# changed\n")
    mobe("verify", tmp_path / "small", "--against", original, code=1)
