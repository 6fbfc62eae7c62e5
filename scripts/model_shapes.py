"""The published models as data: what their config.json says, and the names and
shapes of their tensors. Written from the models' own files, apart from the tables in
src/families, so that each checks the other.
"""

import copy
from typing import Callable, Iterator, NamedTuple


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    # What it is for: embedding, output, router, norm, bias (of a router's scores),
    # expert (a routed expert's matrix), projection (MTP's), matrix (any other).
    role: str = "matrix"


YARN = {"type": "yarn", "beta_slow": 1, "original_max_position_embeddings": 4096}

QWEN3 = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "decoder_sparse_step": 1,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}

# Of DeepSeek-V2-Lite, DeepSeek-V3 and Kimi-K2.
DEEPSEEK = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "kv_lora_rank": 512,
    "moe_layer_freq": 1,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "v_head_dim": 128,
}

FP8 = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}

DEEPSEEK_V3 = DEEPSEEK | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "q_lora_rank": 1536,
    "quantization_config": FP8,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
}

GLM4 = {
    "architectures": ["Glm4MoeForCausalLM"],
    "model_type": "glm4_moe",
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": [151329, 151336, 151338],
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 131072,
    "n_group": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 96,
    "num_experts_per_tok": 8,
    "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 151329,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 151552,
}

MODELS = {
    "Qwen3-30B-A3B": QWEN3
    | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "max_window_layers": 48,
        "moe_intermediate_size": 768,
        "num_attention_heads": 32,
        "num_hidden_layers": 48,
    },
    "Qwen3-235B-A22B": QWEN3
    | {
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "max_window_layers": 94,
        "moe_intermediate_size": 1536,
        "num_attention_heads": 64,
        "num_hidden_layers": 94,
    },
    "DeepSeek-V3": DEEPSEEK_V3
    | {
        "model_type": "deepseek_v3",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": 3,
        "max_position_embeddings": 163840,
        "n_group": 8,
        "n_routed_experts": 256,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1,
        "rope_scaling": YARN
        | {"beta_fast": 32, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0},
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "topk_group": 4,
        "vocab_size": 129280,
    },
    "Kimi-K2": DEEPSEEK_V3
    | {
        "model_type": "kimi_k2",
        "bos_token_id": 163584,
        "eos_token_id": 163585,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 131072,
        "n_group": 1,
        "n_routed_experts": 384,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "num_nextn_predict_layers": 0,
        "rope_scaling": YARN
        | {"beta_fast": 1.0, "factor": 32.0, "mscale": 1.0, "mscale_all_dim": 1.0},
        "rope_theta": 50000.0,
        "routed_scaling_factor": 2.827,
        "topk_group": 1,
        "vocab_size": 163840,
    },
    "DeepSeek-V2-Lite": DEEPSEEK
    | {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "bos_token_id": 100000,
        "eos_token_id": 100001,
        "first_k_dense_replace": 1,
        "hidden_size": 2048,
        "intermediate_size": 10944,
        "max_position_embeddings": 163840,
        "moe_intermediate_size": 1408,
        "n_group": 1,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "norm_topk_prob": False,
        "num_attention_heads": 16,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "q_lora_rank": None,
        "rope_scaling": YARN
        | {"beta_fast": 32, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707},
        "rope_theta": 10000,
        "routed_scaling_factor": 1.0,
        "scoring_func": "softmax",
        "topk_group": 1,
        "topk_method": "greedy",
        "vocab_size": 102400,
    },
    "Ling-Lite": {
        "architectures": ["BailingMoeForCausalLM"],
        "model_type": "bailing_moe",
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "eos_token_id": 126081,
        "first_k_dense_replace": 0,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.006,
        "intermediate_size": 5632,
        "max_position_embeddings": 16384,
        "moe_intermediate_size": 1408,
        "norm_head": True,
        "norm_softmax": False,
        "norm_topk_prob": True,
        "num_attention_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "num_shared_experts": 2,
        "output_dropout": 0.0,
        "output_router_logits": False,
        "pad_token_id": 126081,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 600000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_bias": False,
        "use_cache": True,
        "use_qkv_bias": False,
        "vocab_size": 126464,
    },
    "Qwen3-Next-80B-A3B": {
        "architectures": ["Qwen3NextForCausalLM"],
        "model_type": "qwen3_next",
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "decoder_sparse_step": 1,
        "eos_token_id": 151645,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "intermediate_size": 5120,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_value_head_dim": 128,
        "max_position_embeddings": 262144,
        "mlp_only_layers": [],
        "moe_intermediate_size": 512,
        "norm_topk_prob": True,
        "num_attention_heads": 16,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "num_hidden_layers": 48,
        "num_key_value_heads": 2,
        "output_router_logits": False,
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000000,
        "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": 512,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "GLM-4.5": GLM4
    | {
        "first_k_dense_replace": 3,
        "hidden_size": 5120,
        "intermediate_size": 12288,
        "moe_intermediate_size": 1536,
        "n_routed_experts": 160,
        "num_hidden_layers": 92,
        "routed_scaling_factor": 2.5,
        "use_qk_norm": True,
    },
    "GLM-4.5-Air": GLM4
    | {
        "first_k_dense_replace": 1,
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "n_routed_experts": 128,
        "num_hidden_layers": 46,
        "routed_scaling_factor": 1.0,
        "use_qk_norm": False,
    },
    "MiniMax-M2": {
        "architectures": ["MiniMaxM2ForCausalLM"],
        "model_type": "minimax_m2",
        "attn_type_list": [1] * 62,
        "dtype": "bfloat16",
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 3072,
        "intermediate_size": 1536,  # of an expert
        "max_position_embeddings": 196608,
        "mtp_transformer_layers": 1,
        "num_attention_heads": 48,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 62,
        "num_key_value_heads": 8,
        "num_local_experts": 256,
        "num_mtp_modules": 3,  # which are not in the files
        "qk_norm_type": "per_layer",
        "quantization_config": FP8
        | {
            "fmt": "float8_e4m3fn",
            "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"],
        },
        "rms_norm_eps": 1e-06,
        "rope_theta": 5000000,
        "rotary_dim": 64,
        "scoring_func": "sigmoid",
        "shared_intermediate_size": 0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_mtp": True,
        "use_qk_norm": True,
        "use_routing_bias": True,
        "vocab_size": 200064,
    },
}


def norm(name, size):
    return Tensor(f"{name}.weight", (size,), "norm")


def grouped_query(config, layer):
    """Attention of most: heads share keys and values. Qwen3 and GLM-4.5 have a norm for a
    head, MiniMax-M2 one over all; GLM-4.5 has biases; Qwen3-Next has gates with the queries."""
    family, hidden, head = family_of(config), config["hidden_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    name = f"{layer}.self_attn"
    for matrix, rows in (("q", queries * (1 + family.gated)), ("k", keys), ("v", keys)):
        yield Tensor(f"{name}.{matrix}_proj.weight", (rows, hidden))
        if config.get("attention_bias"):
            yield Tensor(f"{name}.{matrix}_proj.bias", (rows,), "norm")
    yield Tensor(f"{name}.o_proj.weight", (hidden, queries))
    if config.get("use_qk_norm", True):
        whole = config.get("qk_norm_type") == "per_layer"
        yield norm(f"{name}.q_norm", queries if whole else head)
        yield norm(f"{name}.k_norm", keys if whole else head)


def delta_net(config, layer):
    """What three of four layers of Qwen3-Next have in place of attention."""
    hidden, name = config["hidden_size"], f"{layer}.linear_attn"
    heads, value = config["linear_num_value_heads"], config["linear_value_head_dim"]
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    channels = 2 * keys + heads * value
    window = config["linear_conv_kernel_dim"]
    yield Tensor(f"{name}.in_proj_qkvz.weight", (channels + heads * value, hidden))
    yield Tensor(f"{name}.in_proj_ba.weight", (2 * heads, hidden))
    yield Tensor(f"{name}.conv1d.weight", (channels, 1, window))
    yield Tensor(f"{name}.dt_bias", (heads,), "norm")
    yield Tensor(f"{name}.A_log", (heads,), "norm")
    yield norm(f"{name}.norm", value)
    yield Tensor(f"{name}.out_proj.weight", (hidden, heads * value))


def fused_query_key_value(config, layer):
    """Attention of Bailing: the rows of all queries, then keys, then values."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = hidden // heads
    rows = (heads + 2 * config["num_key_value_heads"]) * head
    yield Tensor(f"{layer}.attention.query_key_value.weight", (rows, hidden))
    yield Tensor(f"{layer}.attention.dense.weight", (hidden, heads * head))


def multi_latent(config, layer):
    """Attention of DeepSeek: keys and values, and where there is a q_lora_rank
    queries, too, come from a narrow latent vector."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    nope, rope = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
    value, latent = config["v_head_dim"], config["kv_lora_rank"]
    query_latent = config["q_lora_rank"]
    queries = heads * (nope + rope)
    name = f"{layer}.self_attn"
    if query_latent is None:
        yield Tensor(f"{name}.q_proj.weight", (queries, hidden))
    else:
        yield Tensor(f"{name}.q_a_proj.weight", (query_latent, hidden))
        yield norm(f"{name}.q_a_layernorm", query_latent)
        yield Tensor(f"{name}.q_b_proj.weight", (queries, query_latent))
    yield Tensor(f"{name}.kv_a_proj_with_mqa.weight", (latent + rope, hidden))
    yield norm(f"{name}.kv_a_layernorm", latent)
    yield Tensor(f"{name}.kv_b_proj.weight", (heads * (nope + value), latent))
    yield Tensor(f"{name}.o_proj.weight", (hidden, heads * value))


class Family(NamedTuple):
    embedding: str
    attention: Callable[[dict, str], Iterator[Tensor]]
    experts: str  # keys of config.json
    shared_experts: str = ""
    expert_size: str = "moe_intermediate_size"
    block: str = "mlp"
    matrices: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    bias: str = "gate.e_score_correction_bias"  # of the router, if it has any
    gated: bool = False  # attention; and one shared expert, of a size of its own


FAMILIES = {
    "qwen3_moe": Family("model.embed_tokens", grouped_query, "num_experts"),
    "bailing_moe": Family(
        "model.word_embeddings",
        fused_query_key_value,
        "num_experts",
        "num_shared_experts",
    ),
} | dict.fromkeys(
    ("deepseek_v2", "deepseek_v3", "kimi_k2"),
    Family("model.embed_tokens", multi_latent, "n_routed_experts", "n_shared_experts"),
)
FAMILIES |= {
    "glm4_moe": Family("model.embed_tokens", grouped_query, "n_routed_experts", "n_shared_experts"),
    "minimax_m2": Family(
        "model.embed_tokens",
        grouped_query,
        "num_local_experts",
        expert_size="intermediate_size",
        block="block_sparse_moe",
        matrices=("w1", "w3", "w2"),
        bias="e_score_correction_bias",
    ),
    "qwen3_next": Family("model.embed_tokens", grouped_query, "num_experts", gated=True),
}


def family_of(config):
    return FAMILIES[config["model_type"]]


def is_dense(config, layer):
    if "mlp_only_layers" in config:
        return layer in config["mlp_only_layers"]
    return layer < config.get("first_k_dense_replace", 0)


def has_router_bias(config):
    noaux = config.get("topk_method") == "noaux_tc" or config["model_type"] == "glm4_moe"
    return noaux or config.get("use_routing_bias", False)


def mlp(name, hidden, size, role="matrix", matrices=Family._field_defaults["matrices"]):
    gate, up, down = matrices
    yield Tensor(f"{name}.{gate}.weight", (size, hidden), role)
    yield Tensor(f"{name}.{up}.weight", (size, hidden), role)
    yield Tensor(f"{name}.{down}.weight", (hidden, size), role)


def mixture(config, name):
    """Router, experts and shared experts."""
    family, hidden = family_of(config), config["hidden_size"]
    experts, size = config[family.experts], config[family.expert_size]
    yield Tensor(f"{name}.gate.weight", (experts, hidden), "router")
    if has_router_bias(config):
        yield Tensor(f"{name}.{family.bias}", (experts,), "bias")
    # The native MoBE format: gate and up are A, and share bases.
    bases = config.get("num_B")
    for kind in ("gate", "up") if bases else ():
        yield Tensor(f"{name}.B_{kind}", (bases, size, hidden), "bases")
        yield Tensor(f"{name}.W_{kind}", (experts, bases), "alpha")
    for expert in range(experts):
        expert_name = f"{name}.experts.{expert}"
        if not bases:
            yield from mlp(expert_name, hidden, size, "expert", family.matrices)
            continue
        gate, up, down = family.matrices
        yield Tensor(f"{expert_name}.{gate}.weight", (size, size), "factor")
        yield Tensor(f"{expert_name}.{up}.weight", (size, size), "factor")
        yield Tensor(f"{expert_name}.{down}.weight", (hidden, size), "expert")
    shared = config[family.shared_experts] if family.shared_experts else 0
    if shared > 0:
        yield from mlp(f"{name}.shared_experts", hidden, shared * size)
    if family.gated:
        shared_size = config["shared_expert_intermediate_size"]
        yield from mlp(f"{name}.shared_expert", hidden, shared_size)
        yield Tensor(f"{name}.shared_expert_gate.weight", (1, hidden))


def attention_of(config, index):
    interval = config.get("full_attention_interval")
    return delta_net if interval and (index + 1) % interval else family_of(config).attention


def decoder_layer(config, index):
    hidden, name = config["hidden_size"], f"model.layers.{index}"
    yield norm(f"{name}.input_layernorm", hidden)
    yield from attention_of(config, index)(config, name)
    yield norm(f"{name}.post_attention_layernorm", hidden)
    if is_dense(config, index):
        yield from mlp(f"{name}.mlp", hidden, config["intermediate_size"])
    else:
        yield from mixture(config, f"{name}.{family_of(config).block}")


def prediction_layer(config, index):
    """DeepSeek-V3's layer for multi-token prediction (MTP), after the others."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    name = f"model.layers.{index}"
    yield Tensor(f"{name}.embed_tokens.weight", (vocabulary, hidden), "embedding")
    yield norm(f"{name}.enorm", hidden)
    yield norm(f"{name}.hnorm", hidden)
    yield Tensor(f"{name}.eh_proj.weight", (hidden, 2 * hidden), "projection")
    yield from decoder_layer(config, index)
    yield norm(f"{name}.shared_head.norm", hidden)
    yield Tensor(f"{name}.shared_head.head.weight", (vocabulary, hidden), "output")


def tensors_of(config):
    """Every tensor of a checkpoint; scales of FP8 matrices are not listed."""
    table = (config["vocab_size"], config["hidden_size"])
    layers = config["num_hidden_layers"]
    yield Tensor(f"{family_of(config).embedding}.weight", table, "embedding")
    for index in range(layers):
        yield from decoder_layer(config, index)
    for index in range(layers, layers + config.get("num_nextn_predict_layers", 0)):
        yield from prediction_layer(config, index)
    yield norm("model.norm", config["hidden_size"])
    yield Tensor("lm_head.weight", table, "output")


WIDTHS = (
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "kv_lora_rank",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "moe_intermediate_size",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "rotary_dim",
    "shared_expert_intermediate_size",
    "v_head_dim",
    "vocab_size",
)


def make_config(
    model,
    layers=None,
    experts=None,
    dense_layers=None,
    mtp=False,
    fp8=None,
    divisor=1,
    bases=None,
):
    """The config.json of a published model with fewer layers or experts; what is None
    stays as published. `dense_layers` is how many layers begin without experts.
    `divisor` makes the widths smaller, for tests. With `bases`, gate and up of the
    experts are factored. Fails with ValueError."""
    for name, value, least in (
        ("layers", layers, 1),
        ("experts", experts, 1),
        ("dense layers", dense_layers, 0),
        ("divisor of widths", divisor, 1),
        ("bases", bases, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} {value}: expected {least} or more")
    config = copy.deepcopy(MODELS[model])
    key = family_of(config).experts
    if layers is not None:
        config["num_hidden_layers"] = layers
    if experts is not None:
        config[key] = experts
    if dense_layers is not None and "mlp_only_layers" in config:
        config["mlp_only_layers"] = list(range(dense_layers))
    elif dense_layers is not None and "first_k_dense_replace" in config:
        config["first_k_dense_replace"] = dense_layers
    elif dense_layers:
        raise ValueError(f"{model} has experts in all layers")
    if mtp and not config.get("num_nextn_predict_layers"):
        raise ValueError(f"{model} has no layer for multi-token prediction")
    if "num_nextn_predict_layers" in config:
        config["num_nextn_predict_layers"] = int(mtp)
    if fp8 is True:
        config["quantization_config"] = FP8
    elif fp8 is False:
        config.pop("quantization_config", None)

    groups = config.get("n_group", 1)
    # A group's score is the sum of its two best experts'.
    least = max(config["num_experts_per_tok"], 2 * groups if groups > 1 else 1)
    if config[key] % groups != 0 or config[key] < least:
        raise ValueError(
            f"{config[key]} experts: expected a multiple of {groups}, at least {least}"
        )
    for width in WIDTHS:
        if config.get(width) is None:
            continue
        if config[width] % divisor != 0:
            raise ValueError(f"{width} {config[width]} is no multiple of {divisor}")
        config[width] //= divisor
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if isinstance(config.get(token), list):
            config[token] = [one % config["vocab_size"] for one in config[token]]
        elif token in config:
            config[token] %= config["vocab_size"]
    if bases is not None:
        config |= {"num_B": bases, "activation": "silu"}
    return config
