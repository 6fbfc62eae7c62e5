"""Native folders in vLLM by python/mobe/vllm_plugin.py: the tokens are those of mobe and
of transformers. Runs where vLLM and the plugin are installed, by scripts/vllm.sh."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import tensors_of
from test_make_checkpoint import make_checkpoint, model_shapes
from test_quantised_inputs import write_models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

if importlib.util.find_spec("vllm") is None:
    pytest.skip("no vLLM; `make vllm` installs it", allow_module_level=True)
from mobe.modeling_mobe import MobeForCausalLM  # noqa: E402

PROMPTS = ["Once upon a time", "The king said to", "In the year 1999", "She was born in"]
TOKENS = 24
MINI, V3, KIMI = "mini-qwen3-moe", "DeepSeek-V3", "Kimi-K2"
EVERYTHING = ["--kinds", "gate,up,down", "--rank", 64, "--basis-rank", 16, "--bases", 8]
EVERYTHING += ["--alphas", 4, "--activation", "identity"]
# The model, options of compress, and of vLLM. Random models have tokens that are nearly as
# likely as others, so they are not run in bfloat16; FP8 vLLM would take in nothing else.
# With AMX it would take latent attention that is in bfloat16 alone.
LATENT = {"attention_backend": "CPU_MLA"}
CASES = {
    "reference": (MINI, ["--bases", 8], {"dtype": "bfloat16"}),
    "float32": (MINI, ["--bases", 8], {}),
    "two ranks": (MINI, ["--bases", 8], {"tensor_parallel_size": 2}),
    "everything": (MINI, EVERYTHING, {}),
    "groups": (MINI, ["--groups", 4, "--bases", 16, "--layers", "1-4"], {}),
    **{form: (MINI, ["--bases", 8], {}) for form in ("int2", "int3", "int4", "int5", "int6")},
    "fp8": ("fp8 of rows", ["--bases", 8, "--keep-fp8"], {"dtype": "bfloat16"}),
    "deepseek_v3": (V3, ["--bases", 4, "--activation", "tanh"], LATENT),
    "kimi_k2": (KIMI, ["--bases", 4, "--groups", 2], LATENT),
    "mixtral": ("mixtral", ["--bases", 4], {}),
    "int4 and biases": ("qwen2_moe", ["--bases", 4], {}),
}


def make_random(name, folder):
    """A tiny model of heads that are as wide as vLLM has kernels for."""
    if name in ("mixtral", "qwen2_moe"):
        values = {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2}
        values |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
        if name == "qwen2_moe":
            values |= {"moe_intermediate_size": 64, "num_experts": 8}
            values |= {"shared_expert_intermediate_size": 64}
        torch.manual_seed(1)
        config = AutoConfig.for_model(name, initializer_range=0.1, **values)
        model = AutoModelForCausalLM.from_config(config)
        for parameter, values in model.named_parameters():
            if parameter.endswith("bias"):
                torch.nn.init.normal_(values)
        model.save_pretrained(folder)
        return
    config = model_shapes.make_config(name, layers=3, experts=16, dense_layers=1)
    config |= {"hidden_size": 128, "intermediate_size": 256, "q_lora_rank": 64}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512}
    config |= {"moe_intermediate_size": 64, "bos_token_id": 1, "eos_token_id": 2}
    make_checkpoint.write_checkpoint(folder, config)


@pytest.fixture
def original(models, data, tmp_path):
    def make(name):
        if name == MINI:
            return models / MINI
        if name.startswith("fp8"):
            folder, _ = write_models(tmp_path, models / MINI, name)
            shutil.copy(models / MINI / "tokenizer.json", folder)
            return folder
        folder = tmp_path / name
        make_random(name, folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(data / "models/deepseek_v3" / file, folder)
        return folder

    return make


def ask_vllm(folder, options):
    """Tokens after each prompt, and the log."""
    program = [sys.executable, Path(__file__).with_name("vllm_generate.py")]
    arguments = [folder, json.dumps(PROMPTS), json.dumps(options | {"tokens": TOKENS})]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "NO_COLOR": "1"}
    if "tensor_parallel_size" in options:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "0|0"  # a place for each rank
    done = subprocess.run(
        program + arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        env=environment,
    )
    assert done.returncode == 0, done.stdout
    answers = re.search(r"^\[\[.*\]\]$", done.stdout, re.MULTILINE).group()
    return json.loads(answers), done.stdout


def ask_mobe(mobe, folder, exact):
    options = ["--max-tokens", TOKENS, "--logprobs", 1, "--json", "--quiet"]
    if exact:
        options += ["--dtype", "float32", "--cache", "f32", "--built-format", "f32"]
    answers = [mobe("generate", folder, "--prompt", p, *options) for p in PROMPTS]
    return [[token["id"] for token in answer["logprobs"]] for answer in answers]


def ask_transformers(folder, dtype):
    model = MobeForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    answers = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, max_new_tokens=TOKENS, do_sample=False)
        answers.append(out[0, ids.shape[1] :].tolist())
    return answers


def matching(folder, pattern):
    return [t for name, t in tensors_of(folder).items() if re.search(pattern, name)]


@pytest.mark.parametrize("case", CASES)
def test_gives_our_tokens(case, original, mobe, tmp_path):
    name, compress_options, vllm_options = CASES[case]
    model, folder = original(name), tmp_path / "small"
    mobe("compress", model, folder, *compress_options, "--budget", 1)
    form = re.match(r"int\d", case)
    if form:
        mobe("quantize", folder, tmp_path / "packed", "--format", form[0])
        folder = tmp_path / "packed"
    options = {"load_format": "mobe", "dtype": "float32"} | vllm_options
    answers, log = ask_vllm(folder, options)
    assert answers == ask_transformers(folder, options["dtype"])
    if case == "fp8":  # In bfloat16 transformers' first token after one prompt is another.
        assert ask_mobe(mobe, folder, True) == ask_transformers(folder, "float32")
    elif not form:  # Of those mobe rounds the inputs, too.
        assert answers == ask_mobe(mobe, folder, options["dtype"] == "float32")

    said = re.search(r"experts of .*: ([\d,]+) bytes built.*; ([\d,]+) bytes in", log)
    built, stored = (int(number.replace(",", "")) for number in said.groups())
    assert stored == sum(t.nbytes for t in matching(folder, r"\.(experts\.|[BW]_)"))
    numbers = sum(t.numel() for t in matching(model, r"\.experts\..*weight$"))
    assert built == numbers * getattr(torch, options["dtype"]).itemsize
