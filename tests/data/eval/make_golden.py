#!/usr/bin/env python3
"""Writes golden.json: what transformers and plain torch find for the text and
models of this repository, in float32 with sums in float64. Needs torch,
transformers 4.57.6 and safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
MINI = REPOSITORY / "models/mini-qwen3-moe"
TEXT_TOKENS = 400  # of its sample.txt


def losses(logits, targets):
    log_p = torch.log_softmax(logits.double(), -1)
    return -log_p.gather(-1, targets[:, None])[:, 0]


def perplexity(values):
    mean = values.mean()
    error = values.std() / len(values) ** 0.5
    return {
        "tokens": len(values),
        "ppl": mean.exp().item(),
        "ppl_stderr": (mean.exp() * error).item(),
    }


@torch.no_grad()
def windows(model, ids, context, whole_only, first):
    """Windows of `context` tokens whose tokens from index `first` on count."""
    found = []
    for begin in range(0, len(ids), context):
        window = ids[begin : begin + context]
        if len(window) <= first or (whole_only and len(window) < context):
            continue
        logits = model(window[None]).logits[0]
        found.append(losses(logits[first - 1 : -1], window[first:]))
    return perplexity(torch.cat(found))


def perplexities():
    tokenizer = Tokenizer.from_file(str(MINI / "tokenizer.json"))
    text = (MINI / "sample.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    ids = torch.tensor(ids[:TEXT_TOKENS])
    model = AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32)
    model.eval()
    return {
        "text_tokens": len(ids),
        "hf": windows(model, ids, 2048, False, 1),
        "hf_64": windows(model, ids, 64, False, 1),
        "llama.cpp_64": windows(model, ids, 64, True, 64 // 2 + 1),
    }


def comparison():
    """Of the golden logits of two tiny models, first sequence only."""
    base, other = (
        load_file(REPOSITORY / "tests/data/models" / name / "golden.safetensors")
        for name in ("qwen3_moe", "qwen3_mobe")
    )
    ids = base["input_ids"][0]
    assert torch.equal(ids, other["input_ids"][0])
    p, q = (golden["logits"][0, :-1].double() for golden in (base, other))
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    kld = (log_p.exp() * (log_p - log_q)).sum(-1)
    base_losses, other_losses = losses(p, ids[1:]), losses(q, ids[1:])
    ratio = perplexity(other_losses - base_losses)
    percentiles = {
        f"kld_p{percent}": kld.quantile(percent / 100).item()
        for percent in (50, 90, 95, 99)
    }
    return {
        "ids": ids.tolist(),
        "kld_mean": kld.mean().item(),
        "kld_stderr": (kld.std() / len(kld) ** 0.5).item(),
        **percentiles,
        "kld_max": kld.max().item(),
        "top1_agreement": (p.argmax(-1) == q.argmax(-1)).double().mean().item(),
        "ppl_base": perplexity(base_losses)["ppl"],
        "ppl_other": perplexity(other_losses)["ppl"],
        "ppl_ratio": ratio["ppl"],
        "ppl_ratio_stderr": ratio["ppl_stderr"],
        "tokens": len(kld),
    }


def main():
    golden = {"perplexity": perplexities(), "compare": comparison()}
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
