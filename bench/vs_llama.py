#!/usr/bin/env python3
"""Decoding and prompts of mobe beside those of llama.cpp.

Writes build/llama/original, a Qwen3-MoE checkpoint, as GGUF in bfloat16, has
llama.cpp quantise that, and times everything in turn, round after round, so that
what slows the machine for a while slows all alike. Each time is of a process of its
own, with the weights in memory and after an untimed run. A ratio is the median of
those of the rounds.

mobe runs the original in bfloat16 and each --form: a folder and options of `mobe
bench`, as "OUT --experts fused".

With --cap 0.6 --of BF16 each process gets a control group whose memory is that share of
the model's bytes, and begins with nothing of the files in memory: llama.cpp then maps
what does not fit, mobe streams it. Decoding alone is timed. Needs root.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from llama_forms import as_floats, read_file

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("MOBE", REPOSITORY / "build/release/mobe")
FOLDER = REPOSITORY / "build/llama"
ORIGINAL = FOLDER / "original"
BF16 = gguf.GGMLQuantizationType.BF16
QUANTISED = {
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
# By llama.cpp's names; {} is the layer. Those of gguf's table for Qwen3-MoE.
TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
}
EXPERT_TENSORS = {
    "ffn_gate_exps": "gate_proj",
    "ffn_up_exps": "up_proj",
    "ffn_down_exps": "down_proj",
}
ROUTER = "ffn_gate_inp"


def read_tensors(folder):
    """Name -> bfloat16 tensor as uint16, mapped."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, (dtype, values) in read_file(path).items():
            assert dtype == "BF16", (name, dtype)
            found[name] = values
    return found


def list_tensors(config, tensors):
    """Pairs of a name in GGUF and a function that gives its values."""

    def single(name):
        return lambda: tensors[f"{name}.weight"]

    def stacked(layer, name):
        prefix = f"model.layers.{layer}.mlp.experts"
        experts = range(config["num_experts"])
        return lambda: np.stack([tensors[f"{prefix}.{e}.{name}.weight"] for e in experts])

    for name, ours in TENSORS.items():
        yield name, single(ours)
    for layer in range(config["num_hidden_layers"]):
        for name, ours in LAYER_TENSORS.items():
            yield f"blk.{layer}.{name}", single(f"model.layers.{layer}.{ours}")
        for name, ours in EXPERT_TENSORS.items():
            yield f"blk.{layer}.{name}", stacked(layer, ours)


def as_gguf(name, values):
    """As llama.cpp's converter stores it: matrices in bfloat16, by their bytes;
    vectors and routers in float32."""
    if values.ndim == 1 or name.endswith(ROUTER):
        return as_floats(values), None
    return np.ascontiguousarray(values).view(np.uint8), BF16


def write_gguf(folder, path):
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_name("random")
    writer.add_file_type(llama_cpp.LLAMA_FTYPE_MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    entries = list(list_tensors(config, read_tensors(folder)))
    for name, load in entries:
        values, dtype = as_gguf(name, load())
        writer.add_tensor_info(
            f"{name}.weight", values.shape, values.dtype, values.nbytes, dtype
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, load in entries:
        writer.write_tensor_data(as_gguf(name, load())[0])
    writer.close()


def quantise(source, path, ftype, threads):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = ftype
    parameters.nthread = threads
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(path).encode(), ctypes.byref(parameters)
    )
    if code != 0:
        sys.exit(f"vs_llama: {path}: llama.cpp failed to quantise, code {code}")


def make_models(threads):
    """Name -> GGUF file, each made once."""
    models = {name: FOLDER / f"{name}.gguf" for name in ("BF16", *QUANTISED)}
    for name, path in models.items():
        if path.exists():
            continue
        part = path.with_suffix(".part")
        if name == "BF16":
            write_gguf(ORIGINAL, part)
        else:
            quantise(models["BF16"], part, QUANTISED[name], threads)
        part.rename(path)
    return models


@llama_cpp.llama_log_callback
def drop(_level, _text, _data):
    """What llama.cpp logs, hundreds of lines for each model."""


class LlamaModel:
    """By llama.cpp's own functions, as llama-bench calls them."""

    def __init__(self, path, threads, context, mapped):
        model_parameters = llama_cpp.llama_model_default_params()
        model_parameters.n_gpu_layers = 0
        # Else it keeps some formats a second time, in the order of its kernels.
        model_parameters.use_extra_bufts = not mapped
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_parameters)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = model and llama_cpp.llama_init_from_model(model, parameters)
        if not self.context:
            sys.exit(f"vs_llama: {path}: llama.cpp can't load it")
        vocab = llama_cpp.llama_model_get_vocab(model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        self.random = np.random.default_rng(1)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, count):
        ids = self.random.integers(0, self.vocab_size, count).tolist()
        tokens = (llama_cpp.llama_token * count)(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, count)
        if llama_cpp.llama_decode(self.context, batch) != 0:
            sys.exit("vs_llama: llama_decode failed")
        llama_cpp.llama_synchronize(self.context)

    def rate(self, count, each):
        """Tokens a second, `count` of them in steps of `each`."""
        self.clear()
        start = time.monotonic()
        for _ in range(count // each):
            self.step(each)
        return count / (time.monotonic() - start)


def run_llama(path, threads, prompt, generate, mapped):
    """In this process. {"prefill", "decode"}: tokens a second; without a prompt the
    second alone."""
    model = LlamaModel(path, threads, prompt + generate, mapped)
    rates = {}
    if prompt:
        model.rate(prompt, prompt)
        rates["prefill"] = model.rate(prompt, prompt)
    model.rate(2, 1)
    return rates | {"decode": model.rate(generate, 1)}


@contextlib.contextmanager
def memory_group(limit):
    """Options of subprocess.run for a process in a control group with so much memory, or
    none without a limit. The page cache is empty at the start."""
    if limit is None:
        yield {}
        return
    Path("/proc/sys/vm/drop_caches").write_text("3")
    root = Path("/sys/fs/cgroup")
    first_version = (root / "memory").is_dir()
    group = (root / "memory" if first_version else root) / f"vs_llama_{os.getpid()}"
    group.mkdir()
    name = "memory.limit_in_bytes" if first_version else "memory.max"
    try:
        (group / name).write_text(str(limit))
        yield {"preexec_fn": lambda: (group / "cgroup.procs").write_text("0")}
    finally:
        group.rmdir()


def output_of(command, limit):
    with memory_group(limit) as options:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, **options
        )
    if done.returncode != 0:
        sys.exit(f"vs_llama: exit code {done.returncode} of {shlex.join(command)}")
    return json.loads(done.stdout)


def time_llama(path, a):
    sizes = ["--threads", a.threads, "--prompt", a.prompt, "--generate", a.generate]
    command = [sys.executable, __file__, "--run", path, *sizes]
    if a.cap:
        command += ["--cap", a.cap]
    return output_of([str(part) for part in command], a.limit)


def time_mobe(form, a):
    sizes = ["--threads", a.threads, "-p", a.prompt, "-n", a.generate]
    command = [PROGRAM, "bench", *shlex.split(form), *sizes, "-r", 1]
    command = [str(part) for part in (*command, "--json", "--quiet")]
    rates = [row["tokens_per_second"] for row in output_of(command, a.limit)["results"]]
    return dict(zip(("prefill", "decode") if a.prompt else ("decode",), rates, strict=True))


def print_table(title, columns, rows):
    print(f"\n| {title} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, cells in rows:
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_results(results, models, forms):
    kinds = [k for k in ("decode", "prefill") if k in next(iter(results.values()))[0]]

    def cells(name):
        for kind in kinds:
            values = [r[kind] for r in results[name]]
            yield f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    print_table("tokens/s, median (range)", kinds, [(n, list(cells(n))) for n in results])

    def ratio(form, model, kind):
        pairs = zip(results[form], results[model], strict=True)
        return f"{statistics.median(f[kind] / m[kind] for f, m in pairs):.2f}"

    for kind in kinds:
        rows = [(form, [ratio(form, model, kind) for model in models]) for form in forms]
        print_table(f"{kind}, ratio to", models, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", action="append", default=[], help="see above")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--cap", type=float, help="share of memory; see above")
    parser.add_argument("--of", choices=("BF16", *QUANTISED), default="BF16")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)  # one GGUF, once
    a = parser.parse_args()
    llama_cpp.llama_log_set(drop, None)
    if a.run:
        rates = run_llama(a.run, a.threads, a.prompt, a.generate, bool(a.cap))
        print(json.dumps(rates))
        return
    files = make_models(a.threads)
    a.limit = None
    if a.cap:
        a.prompt = 0
        a.limit = int(a.cap * files[a.of].stat().st_size)
        files = {a.of: files[a.of]}
    models = {f"llama.cpp {name}": path for name, path in files.items()}
    forms = {f"mobe {form}": form for form in a.form}
    if a.of == "BF16":
        original = f"{shlex.quote(str(ORIGINAL))} --dtype bfloat16"
        forms = {"mobe bfloat16": original} | forms
    results = {name: [] for name in (*models, *forms)}
    for number in range(a.rounds):
        print(f"round {number + 1} of {a.rounds}", file=sys.stderr)
        for name, path in models.items():
            results[name].append(time_llama(path, a))
        for name, form in forms.items():
            results[name].append(time_mobe(form, a))
    print(f"{a.threads} threads, {a.rounds} rounds, llama-cpp-python {llama_cpp.__version__}")
    print_results(results, list(models), list(forms))


if __name__ == "__main__":
    main()
