#!/usr/bin/env python3
"""Writes what llama.cpp's formats leave of a model's experts.

Usage: bench/llama_forms.py MODEL MOMENTS TYPE OUT [--importance]

MODEL is a plain Qwen3-MoE checkpoint in bfloat16, MOMENTS what `mobe calibrate` wrote of
it, TYPE a type of llama.cpp, as Q4_K. OUT becomes the same checkpoint with experts rounded
to TYPE, in float32. With --importance they are rounded by the mean squares of what each
expert's matrices read, as llama.cpp does with an importance matrix. Prints the bytes that
the experts take in TYPE.

Runs in the environment that bench/run_vs_llama.sh makes: llama.cpp's own functions round,
package gguf reads."""

import argparse
import ctypes
import json
import shutil
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

# What llama.cpp takes in place of a type whose blocks of 256 do not divide a row.
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
FALLBACK_OF_OTHERS = "IQ4_NL"
KINDS = ("gate_proj", "up_proj", "down_proj")


def read_file(path):
    """Name -> (dtype, array) of a safetensors file, mapped; BF16 as uint16."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    size = int(data[:8].view("<u8")[0])
    types = {"BF16": "<u2", "F32": "<f4", "I32": "<i4"}
    found = {}
    for name, entry in json.loads(bytes(data[8 : 8 + size])).items():
        if name != "__metadata__":
            begin, end = (8 + size + place for place in entry["data_offsets"])
            values = data[begin:end].view(types[entry["dtype"]])
            found[name] = entry["dtype"], values.reshape(entry["shape"])
    return found


def write_file(path, tensors):
    header, place = {}, 0
    for name, (dtype, values) in tensors.items():
        offsets = [place, place + values.nbytes]
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": offsets}
        place = offsets[1]
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, values in tensors.values():
            file.write(np.ascontiguousarray(values))


def as_floats(bfloat16):
    return (bfloat16.astype("<u4") << 16).view("<f4")


def round_rows(ggml, name, values, importance):
    """What a type leaves of a matrix, and its bytes."""
    kind = gguf.GGMLQuantizationType[name]
    if values.shape[1] % gguf.GGML_QUANT_SIZES[kind][0]:
        name = FALLBACK.get(name, FALLBACK_OF_OTHERS)
        kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, cols = values.shape
    stored = np.empty((rows, cols // block * size), np.uint8)
    floats = ctypes.POINTER(ctypes.c_float)
    values = np.ascontiguousarray(values)
    weights = importance is not None and np.ascontiguousarray(importance, np.float32)
    ggml.ggml_quantize_chunk(
        ctypes.c_int(kind),
        values.ctypes.data_as(floats),
        stored.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(rows),
        ctypes.c_int64(cols),
        weights.ctypes.data_as(floats) if importance is not None else None,
    )
    return gguf.dequantize(stored, kind).astype(np.float32), stored.nbytes


def mean_squares(x, gate, up):
    """Of what an expert's matrices read: x, and the product that down reads."""
    g = x @ gate.T
    product = g / (1 + np.exp(-g)) * (x @ up.T)
    squares = (x**2).mean(0)
    return squares, squares, (product**2).mean(0)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("moments", type=Path)
    parser.add_argument("type")
    parser.add_argument("out", type=Path)
    parser.add_argument("--importance", action="store_true")
    args = parser.parse_args()

    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib/libggml-base.so"))
    config = json.loads((args.model / "config.json").read_text())
    tensors = {}
    for path in sorted(args.model.glob("*.safetensors")):
        tensors |= read_file(path)
    moments = read_file(args.moments)
    total = 0
    for layer in range(config["num_hidden_layers"]):
        _, inputs = moments[f"model.layers.{layer}.inputs"]
        _, picks = moments[f"model.layers.{layer}.picks"]
        for expert in range(config["num_experts"]):
            names = [f"model.layers.{layer}.mlp.experts.{expert}.{k}.weight" for k in KINDS]
            matrices = [as_floats(tensors[name][1]) for name in names]
            importances = [None] * len(KINDS)
            x = as_floats(inputs[(picks == expert).any(1)])
            if args.importance and len(x):
                importances = mean_squares(x, *matrices[:2])
            for name, values, importance in zip(names, matrices, importances, strict=True):
                left, size = round_rows(ggml, args.type, values, importance)
                tensors[name] = "F32", left
                total += size
    args.out.mkdir()
    write_file(args.out / "model.safetensors", tensors)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(args.model / name, args.out)
    print(total)


if __name__ == "__main__":
    main()
