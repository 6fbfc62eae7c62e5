"""Greedy text of `mobe generate` against that of transformers."""

import json
import shutil

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


def test_ends_at_the_tokens_that_any_file_names(mobe, models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models / "mini-qwen3-moe", folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    run = ["generate", folder, "--prompt", PROMPT, "--max-tokens", 8, "--temperature", 0]
    ids = tokenizer.encode(mobe(*run, "--json")["text"]).ids
    at = next(i for i in range(2, 8) if ids[i] not in ids[:i])
    token = tokenizer.id_to_token(ids[at])
    names = ("config.json", "generation_config.json", "tokenizer_config.json")
    plain = {name: json.loads(path.read_text()) if path.exists() else {}
             for name in names for path in [folder / name]}
    for name, key, value in (
        ("config.json", "eos_token_id", ids[at]),
        ("generation_config.json", "eos_token_id", [0, ids[at]]),
        ("tokenizer_config.json", "eos_token", token),
        ("tokenizer_config.json", "eos_token", {"content": token}),
    ):
        for other in names:
            more = {key: value} if other == name else {}
            (folder / other).write_text(json.dumps({**plain[other], **more}))
        ours = mobe(*run, "--json")
        assert (ours["tokens"], ours["finish_reason"]) == (at + 1, "stop"), name
