"""A tiny checkpoint that writes what a test wants: added tokens hold whole strings, and
the head makes each token follow the one before. Experts and attention add nothing."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN = 128

# Qwen's form, as far as a test needs it; the last token of a prompt is the user's last.
TEMPLATE = """\
{%- if tools %}<tools>{{ tools | tojson }}</tools>
To call one: <tool_call>
{"name": ..., "arguments": ...}
</tool_call>
{% endif %}
{%- for message in messages %}
{{- message.role }}: {% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}
{%- if not loop.last %}
{% endif %}
{%- endfor %}"""

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "max_position_embeddings": 40960,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def write_scripted(folder, scripts, tokenizer):
    """Writes a model folder. `scripts` maps what a user says, "<weather>", to the pieces
    of the answer, a token each; a piece that comes again in its script is a loop without
    an end. `tokenizer` is the tokenizer.json that the tokens are added to."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokens = json.loads(Path(tokenizer).read_text())
    added = {t["content"]: t["id"] for t in tokens["added_tokens"]}
    end = added["<|im_end|>"]
    follows = {}

    def token(content):
        assert content not in tokens["model"]["vocab"], f"{content} has an id already"
        if content not in added:
            added[content] = max(added.values()) + 1
            tokens["added_tokens"].append(
                {
                    "id": added[content],
                    "content": content,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": False,
                }
            )
        return added[content]

    for said, pieces in scripts.items():
        chain = [token(said), *(token(piece) for piece in pieces)]
        if len(set(chain)) == len(chain):
            chain.append(end)
        follows |= dict(zip(chain, chain[1:]))

    vocabulary = max(added.values()) + 1
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(shape, generator=generator).bfloat16()

    embedding = torch.nn.functional.normalize(random(vocabulary, HIDDEN).float())
    head = 0.01 * embedding.clone()
    for before, after in follows.items():
        # Enough that no seed at a temperature of 1 chooses another.
        head[after] += 4 * embedding[before]
    layer = "model.layers.0."
    zeros, ones = torch.zeros, torch.ones
    tensors = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": ones(HIDDEN),
        layer + "input_layernorm.weight": ones(HIDDEN),
        layer + "post_attention_layernorm.weight": ones(HIDDEN),
        layer + "self_attn.q_norm.weight": ones(32),
        layer + "self_attn.k_norm.weight": ones(32),
        layer + "self_attn.q_proj.weight": random(128, HIDDEN),
        layer + "self_attn.k_proj.weight": random(64, HIDDEN),
        layer + "self_attn.v_proj.weight": random(64, HIDDEN),
        layer + "self_attn.o_proj.weight": zeros(HIDDEN, 128),
        layer + "mlp.gate.weight": random(4, HIDDEN),
    }
    for expert in range(4):
        prefix = f"{layer}mlp.experts.{expert}."
        tensors[prefix + "gate_proj.weight"] = random(32, HIDDEN)
        tensors[prefix + "up_proj.weight"] = random(32, HIDDEN)
        tensors[prefix + "down_proj.weight"] = zeros(HIDDEN, 32)
    tensors = {name: t.bfloat16().contiguous() for name, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(CONFIG | {"vocab_size": vocabulary, "eos_token_id": end})
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder
