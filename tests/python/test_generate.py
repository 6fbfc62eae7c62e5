"""Greedy text of `mobe generate` against that of transformers."""

import torch
from checkpoints import load_stock
from tokenizers import Tokenizer

PROMPT = "The old man looked at the sea and said"
TOKENS = 20


def test_greedy_tokens(mobe, models):
    folder = models / "mini-qwen3-moe"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt = tokenizer.encode(PROMPT).ids
    stock = load_stock(folder)
    ids = torch.tensor([prompt])
    generated = stock.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    # A tie could go either way; the prompt was chosen to have none.
    for scores in generated.scores:
        first, second = scores[0].topk(2).values
        assert first - second > 1e-2
    new = generated.sequences[0, len(prompt) :].tolist()

    options = ["--prompt", PROMPT, "--max-tokens", TOKENS, "--temperature", 0]
    ours = mobe("generate", folder, *options, "--json")
    assert ours["prompt_tokens"] == len(prompt)
    assert ours["tokens"] == len(new) == TOKENS
    assert ours["text"] == tokenizer.decode(new)
    assert tokenizer.encode(ours["text"]).ids == new
