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


def test_many_prompts_give_the_texts_of_each(mobe, models, tmp_path):
    folder = models / "mini-qwen3-moe"
    prompts = [PROMPT, "The castle was", "Two\nlines", "The", "A horse"]
    file = tmp_path / "prompts.txt"
    lines = [json.dumps(p) if "\n" in p else p for p in prompts]
    file.write_text("\r\n".join(lines) + "\n\n")
    options = ["--max-tokens", 12, "--temperature", 0]
    run = ["generate", folder, "--prompts-file", file, *options]
    ours = mobe(*run, "--logprobs", 2, "--json")
    alone = [mobe("generate", folder, "--prompt", p, *options, "--json") for p in prompts]
    assert [a["text"] for a in ours["answers"]] == [a["text"] for a in alone]
    assert ours["tokens"] == sum(a["tokens"] for a in alone)
    for answer in ours["answers"]:
        for token in answer["logprobs"]:  # greedy: the likeliest
            assert token["logprob"] == token["top_logprobs"][0]["logprob"]
            assert token["id"] == token["top_logprobs"][0]["id"]
            assert len(token["top_logprobs"]) == 2
    text = mobe(*run, "--quiet")
    assert [json.loads(line) for line in text.splitlines()] == [a["text"] for a in alone]


def test_a_bad_prompt_is_its_own_error(mobe, models, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text('The castle\n""\nThe sea\n')
    run = ["generate", models / "mini-qwen3-moe", "--prompts-file", file]
    assert "prompt 2: no tokens" in mobe(*run, "--max-tokens", 2, code=1)
    file.write_text("\n \n")
    assert "no prompts" in mobe(*run, code=1)
    file.write_text('The castle\n"open\n')
    assert "line 2" in mobe(*run, code=1)
    assert "--logprobs needs --json" in mobe(*run, "--logprobs", 1, code=1)
