"""Model folders as transformers and plain torch see them."""

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

FLOAT32 = {"dtype": torch.float32, "attn_implementation": "eager"}
ACTIVATIONS = {"silu": nn.functional.silu, "tanh": torch.tanh}


def load_stock(folder):
    """The folder in the classes of transformers, which must find every tensor that
    they expect and no other."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, **FLOAT32
    )
    problems = {what: names for what, names in info.items() if names}
    assert not problems, problems
    return model.eval()


@torch.no_grad()
def logits_of(model, ids):
    return model(ids, use_cache=False).logits


def tensors_of(folder):
    """Every tensor of a folder by name, as stored."""
    tensors = {}
    for shard in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(shard)
    return tensors


def sample_ids(vocabulary, sequences=2, tokens=24):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(vocabulary, (sequences, tokens), generator=generator)


def build(a, alpha, bases, activation):
    """W = A f(sum_i alpha_i B_i) of one expert (arXiv 2508.05257)."""
    return a @ ACTIVATIONS[activation](torch.tensordot(alpha, bases, 1))


class FactoredLinear(nn.Module):
    """Stands in for an expert's gate_proj or up_proj. It owns A, under the dense
    matrix's name; bases and alpha are the MoE block's."""

    def __init__(self, dense, shared, activation):
        super().__init__()
        rows = dense.out_features
        self.weight = nn.Parameter(torch.zeros(rows, rows))
        self.shared = shared
        self.activation = activation

    def forward(self, x):
        alpha, bases = self.shared()
        weight = build(self.weight, alpha, bases, self.activation)
        return nn.functional.linear(x, weight)


def factor_block(block, num_bases, activation, groups=1):
    """Turns a transformers MoE block into one of the native MoBE format, its experts
    in groups that share bases."""
    experts = list(block.experts)
    in_group = len(experts) // groups
    endings = [""] if groups == 1 else [f"_{g}" for g in range(groups)]
    for kind in ("gate", "up"):
        dense = getattr(experts[0], f"{kind}_proj")
        for ending in endings:
            bases = torch.zeros(
                num_bases // groups, dense.out_features, dense.in_features
            )
            alpha = torch.zeros(in_group, num_bases // groups)
            block.register_parameter(f"B_{kind}{ending}", nn.Parameter(bases))
            block.register_parameter(f"W_{kind}{ending}", nn.Parameter(alpha))
        for index, expert in enumerate(experts):

            def shared(kind=kind, index=index):
                ending = endings[index // in_group]
                alpha = getattr(block, f"W_{kind}{ending}")
                return alpha[index % in_group], getattr(block, f"B_{kind}{ending}")

            setattr(expert, f"{kind}_proj", FactoredLinear(dense, shared, activation))


def load_native(folder):
    """A folder in the reference's native format, read by its config's num_B and
    activation and by the names of the bases alone into factored blocks, every name
    matched. Untied models only: a tied head has no tensor of its own."""
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, **FLOAT32)
    tensors = tensors_of(folder)
    groups = 2 if any(name.endswith(".B_gate_0") for name in tensors) else 1
    for layer in model.model.layers:
        if hasattr(layer.mlp, "experts"):
            factor_block(layer.mlp, config.num_B, config.activation, groups)
    model.load_state_dict(tensors, strict=True)
    return model.eval()
