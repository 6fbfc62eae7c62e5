#!/usr/bin/env python3
"""Makes tests/data/models/FAMILY: tiny models with random weights, and what
transformers computes with them. Needs torch and transformers 5.24 or newer; for
families that are not part of it, --code names a folder with the publisher's own
modeling file, under transformers 4.57.

  scripts/make_family_fixtures.py OUT [FAMILY ...] [--code FOLDER]
"""

import argparse
import json
import math
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

VOCABULARY, TOKENS, STEPS = 128, 24, 16

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "num_experts_per_tok": 3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
DENSE = {"intermediate_size": 48, "moe_intermediate_size": 16}
DELTA = {
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 24,
    "num_experts": 8,
    "head_dim": 16,
    "num_hidden_layers": 3,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
}

# What config.json has beside SMALL; each shows what is the family's own.
FAMILIES = {
    "mixtral": {"intermediate_size": 16, "num_local_experts": 8, "rope_theta": 1e6},
    "qwen2_moe": DENSE
    | {
        "num_experts": 8,
        "shared_expert_intermediate_size": 24,
        "mlp_only_layers": [0],
        "num_hidden_layers": 3,
    },
    "olmoe": {"intermediate_size": 16, "num_experts": 8},
    "glm4_moe": DENSE
    | {
        "head_dim": 16,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 1,
        "attention_bias": True,
        "use_qk_norm": True,
        "num_hidden_layers": 3,
    },
    "minimax_m2": {
        "intermediate_size": 16,
        "num_local_experts": 8,
        "head_dim": 16,
        "rotary_dim": 8,
    },
    "qwen3_next": DELTA
    | {
        "intermediate_size": 48,
        "mlp_only_layers": [0],
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    },
    "qwen3_5_moe": {
        "text_config": SMALL
        | DELTA
        | {
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e5,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "patch_size": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
        },
    },
    # The shape of Moonlight: no low-rank queries, no yarn, one group.
    "moonlight": DENSE
    | {
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "rope_theta": 5e4,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 2.446,
        "num_nextn_predict_layers": 0,
        "first_k_dense_replace": 1,
        "num_hidden_layers": 3,
    },
    "hy_v3": DENSE | {"num_experts": 8, "head_dim": 16, "num_hidden_layers": 3},
    "bailing_moe_v2": DENSE
    | {
        "num_experts": 8,
        "num_shared_experts": 1,
        "n_group": 4,
        "topk_group": 2,
        "head_dim": 16,
        "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "partial_rotary_factor": 0.5,
        "score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
        "routed_scaling_factor": 2.5,
        "num_hidden_layers": 3,
    },
}

# Whose norms multiply by 1 and the weight.
ZERO_CENTRED = {"qwen3_next", "qwen3_5_moe"}

# With 1 a pick of these is so close that bfloat16 makes another.
SEEDS = {"mixtral": 6, "moonlight": 4}


def fill(model, family, seed):
    """Numbers of a trained model's size, all exact in bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        noise = torch.randn(tensor.shape, generator=generator)
        if "inv_freq" in name:
            continue
        zero_centred = family in ZERO_CENTRED and "linear_attn" not in name
        if "bias" in name or (zero_centred and "norm" in name):
            values = 0.1 * noise
        elif "A_log" in name:  # states forget a tenth or so with each token
            values = noise - 2
        elif tensor.dim() == 1:
            values = 1 + 0.1 * noise
        elif "embed" in name:
            values = noise
        else:
            values = 1.5 * noise / math.sqrt(tensor.shape[-1])
        tensor.data.copy_(values.bfloat16().float())


def watch_routers(model, picks):
    """What each layer's router says, by layer, sorted by expert."""

    def remember(layer):
        def hook(_module, _inputs, outputs):
            index = next(o for o in outputs if not o.is_floating_point())
            weight = next(
                o
                for o in outputs
                if o.is_floating_point() and o.shape[-1] == index.shape[-1]
            )
            index, order = index.sort(-1)
            picks[layer] = index, weight.gather(-1, order)

        return hook

    text = getattr(model.model, "language_model", model.model)
    for layer, block in enumerate(text.layers):
        for name, module in block.named_modules():
            if name.endswith(("mlp.gate", "mlp.router")):
                module.register_forward_hook(remember(layer))


@torch.no_grad()
def golden(model, ids):
    picks = {}
    watch_routers(model, picks)
    logits = model(ids, use_cache=False).logits.float()
    tensors = {"input_ids": ids, "logits": logits}
    for layer, (index, weight) in picks.items():
        shape = (*ids.shape, -1)
        tensors[f"router.{layer}.topk_idx"] = index.reshape(shape).contiguous()
        tensors[f"router.{layer}.topk_weight"] = (
            weight.float().reshape(shape).contiguous()
        )
    tokens, margins = ids[:1], []
    for _ in range(STEPS):
        best = model(tokens, use_cache=False).logits[0, -1].topk(2)
        margins.append(round(float(best.values[0] - best.values[1]), 5))
        tokens = torch.cat([tokens, best.indices[:1][None]], dim=1)
    rounded = model.to(torch.bfloat16)(ids, use_cache=False).logits.float()
    off = ((rounded - logits).square().sum() / logits.square().sum()).sqrt()
    return tensors, {
        "prompt": ids[0].tolist(),
        "greedy_continuation": tokens[0, ids.shape[1] :].tolist(),
        "top1_minus_top2_logit": margins,
        "versions": {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "math": "float32 on the stored weights, eager attention, CPU",
        },
        "tolerance": {"fp32_vs_bfloat16_math": {"rel_rms": float(off)}},
    }


def forget_code(folder, family):
    """The publisher's files are not ours to hand on."""
    for file in folder.glob("*.py"):
        file.unlink()
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["auto_map"]
    path.write_text(json.dumps(config | {"model_type": family}, indent=2) + "\n")


def make(family, out, code):
    remote = {"trust_remote_code": True} if code else {}
    own = FAMILIES[family]
    is_part = "text_config" in own  # of a model that takes pictures, too
    values = own if is_part else SMALL | own
    auto = AutoModelForImageTextToText if is_part else AutoModelForCausalLM
    if code:
        config = AutoConfig.from_pretrained(code, **remote)
        config.update(values | {"model_type": family})
    else:
        config = AutoConfig.for_model(**{"model_type": family} | values)
    model = auto.from_config(config, **remote)
    fill(model, family, SEEDS.get(family, 1))
    folder = out / family
    model.to(torch.bfloat16).save_pretrained(folder)
    # Again from the folder: rounding the model rounds its rotary embedding, too.
    model = auto.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **remote
    ).eval()
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(VOCABULARY, (2, TOKENS), generator=generator)
    tensors, facts = golden(model, ids)
    save_file(tensors, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(facts, indent=1) + "\n")
    if code:
        forget_code(folder, family)
    print(family, facts["tolerance"], min(facts["top1_minus_top2_logit"]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("families", nargs="*", default=sorted(FAMILIES))
    parser.add_argument("--code")
    args = parser.parse_args()
    for family in args.families:
        make(family, args.out, args.code)


if __name__ == "__main__":
    main()
