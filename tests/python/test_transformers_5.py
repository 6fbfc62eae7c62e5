"""transformers 5 and mobe read what the other writes. Run by scripts/interop.sh."""

import pytest
import torch
import transformers
from checkpoints import FLOAT32, load_stock, logits_of, sample_ids
from safetensors.torch import load_file
from test_modeling_file import FACTORED_ONLY as FACTORED_TEXT
from test_modeling_file import SIZES

TOLERANCE = 1e-3
MODELS = (
    "qwen3_moe", "qwen2_moe", "mixtral", "olmoe", "glm4_moe", "minimax_m2", "hy_v3", "qwen3_next",
    "qwen3_5_moe", "deepseek_v2", "deepseek_v3", "moonlight",
)  # fmt: skip

if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("of transformers 5", allow_module_level=True)


@pytest.mark.parametrize("form", (True, False), ids=("publishers_names", "own_names"))
@pytest.mark.parametrize("name", MODELS)
def test_mobe_reads_what_transformers_saves(name, form, data, mobe_logits, tmp_path):
    stock = load_stock(data / "models" / name)
    stock.save_pretrained(tmp_path / "saved", save_original_format=form)
    ids = load_file(data / "models" / name / "golden.safetensors")["input_ids"]
    ours = mobe_logits(tmp_path / "saved", ids)
    assert (ours - logits_of(stock, ids)).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_what_reconstruct_writes(name, data, mobe, mobe_logits, tmp_path):
    ids = load_file(data / "models" / name / "golden.safetensors")["input_ids"]
    mobe("compress", data / "models" / name, tmp_path / "mobe", "--bases", 2, "--budget", 2)
    mobe("reconstruct", tmp_path / "mobe", tmp_path / "plain")
    theirs = logits_of(load_stock(tmp_path / "plain"), ids)
    assert (mobe_logits(tmp_path / "plain", ids) - theirs).abs().max() < TOLERANCE


# Families that mobe factors and does not run, which see or hear, or whose experts lie as in
# no other: class, and what its config has. Sizes of experts tell a matrix from its transpose.
TEXT = SIZES | {"moe_intermediate_size": 12, "intermediate_size": 12, "head_dim": 8}
TEXT["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}
LLAMA_VISION = VISION | {
    "intermediate_size": 64,
    "vision_output_dim": 16,
    "projector_input_dim": 16,
    "projector_output_dim": 16,
}
LLAMA = TEXT | {"intermediate_size_mlp": 24, "num_experts_per_tok": 1}
SPARSE = {"mlp_layer_types": ["sparse"] * 2}
ERNIE = TEXT | SPARSE | {"moe_intermediate_size": [12, 8]}
ERNIE["rope_parameters"] = TEXT["rope_parameters"] | {"mrope_section": [1, 1, 2]}
STEP = TEXT | SPARSE | {"share_expert_dim": 16, "sliding_window": 8}
THINKER = {
    "text_config": TEXT,
    "vision_config": VISION,
    "audio_config": {
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "output_dim": 32,
        "num_mel_bins": 16,
        "downsample_hidden_size": 8,
    },
}
OMNI = {
    "thinker_config": THINKER,
    "talker_config": {
        "text_config": TEXT | {"shared_expert_intermediate_size": 16},
        "code_predictor_config": TEXT | {"num_code_groups": 2},
        "thinker_hidden_size": 32,
        "spatial_merge_size": 2,
    },
    "code2wav_config": {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "decoder_dim": 32,
        "num_quantizers": 2,
        "codebook_size": 16,
        "upsample_rates": [2],
        "upsampling_ratios": [2],
    },
}
FACTORED_ONLY = {
    "dbrx": (
        "DbrxForCausalLM",
        {
            "vocab_size": 128,
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
            "ffn_config": {"ffn_hidden_size": 12, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    "ernie4_5_vl_moe": (
        "Ernie4_5_VLMoeForConditionalGeneration",
        {
            "text_config": ERNIE,
            "vision_config": VISION | {"spatial_merge_size": 1},
        },
    ),
    "jamba": (
        "JambaForCausalLM",
        TEXT | FACTORED_TEXT["jamba"],
    ),
    "llama4": (
        "Llama4ForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": LLAMA_VISION},
    ),
    "llama4_text": ("Llama4ForCausalLM", LLAMA),
    "qwen3_omni_moe": ("Qwen3OmniMoeForConditionalGeneration", OMNI),
    "qwen3_omni_moe_thinker": ("Qwen3OmniMoeThinkerForConditionalGeneration", THINKER),
    "qwen3_vl_moe": (
        "Qwen3VLMoeForConditionalGeneration",
        {"text_config": TEXT, "vision_config": VISION},
    ),
    "step3p7": (
        "Step3p7ForConditionalGeneration",
        {"text_config": STEP, "vision_config": VISION},
    ),
}


@torch.no_grad()
def random_model(name):
    torch.manual_seed(0)
    architecture = getattr(transformers, FACTORED_ONLY[name][0])
    model = architecture(architecture.config_class(**FACTORED_ONLY[name][1])).float().eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(std=0.2)
    return model


# Which part makes text where the whole can't be given text alone.
TEXT_PARTS = {"qwen3_omni_moe": "thinker", "llama4": "language_model"}


def text_logits(model):
    part = TEXT_PARTS.get(model.config.model_type)
    text = getattr(model, part) if part else model
    return logits_of(text, sample_ids(SIZES["vocab_size"]))


# With as many bases as experts next to nothing is lost.
@pytest.mark.parametrize("form", (True, False), ids=("publishers_names", "own_names"))
@pytest.mark.parametrize("name", FACTORED_ONLY)
def test_families_that_are_only_factored(name, form, mobe, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "saved", save_original_format=form)
    options = ("--bases", 4, "--activation", "identity", "--passes", 30)
    mobe("compress", tmp_path / "saved", tmp_path / "mobe", *options)
    mobe("verify", tmp_path / "mobe", "--against", tmp_path / "saved")
    mobe("reconstruct", tmp_path / "mobe", tmp_path / "plain")
    mobe("verify", tmp_path / "plain", "--against", tmp_path / "saved")
    plain, info = type(model).from_pretrained(
        tmp_path / "plain", output_loading_info=True, **FLOAT32
    )
    assert not any(info.values()), info
    before, after = text_logits(model), text_logits(plain.eval())
    assert (after - before).norm() < 0.02 * before.norm()
