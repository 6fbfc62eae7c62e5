#!/usr/bin/env python3
"""Writes a checkpoint with the shapes of a published model and random weights, so that
programs meet the true widths without the true weights.

    scripts/make_checkpoint.py DeepSeek-V3 OUT --layers 1 --dense-layers 0 --experts 32

Rows, columns, heads and vocabulary are the model's; so is the format (FP8 for
DeepSeek-V3 and Kimi-K2). Matrices are a product of low rank plus as much noise; the
experts of a layer share its right factor, each matrix kind its own. There is no
tokenizer. Needs torch (build/venv has it).
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

import torch
from model_shapes import MODELS, make_config, tensors_of

RANK = 32  # of the part that is no noise
BLOCK = 128  # rows and columns of a matrix that share a scale in FP8
CHUNK = 1 << 23  # elements that are made at a time
POOL = 1 << 25  # random numbers to take slices from
ITEM_BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}
# Standard deviation of a matrix's products with a vector of variance 1; 1 for the
# others. Larger for sums that a softmax is taken of, which should prefer some.
GAINS = {"router": 2.0, "output": 3.0, "bases": 50.0, "alpha": 1.0}
IN_FP8 = ("matrix", "expert")  # the others of an FP8 checkpoint are bfloat16


class Numbers:
    """Slices of a pool of normal random numbers, at random places."""

    def __init__(self, seed):
        self.pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed))
        self.places = random.Random(seed)

    def take(self, *shape):
        count = math.prod(shape)
        begin = self.places.randrange(POOL - count)
        return self.pool[begin : begin + count].view(shape)


def matrix_chunks(numbers, shape, gain, right):
    """The matrix, some rows at a time; `right` is the low-rank part's right factor."""
    rows, cols = shape
    deviation = gain / math.sqrt(cols)
    half = deviation * math.sqrt(0.5)
    step = max(CHUNK // cols // BLOCK, 1) * BLOCK
    for begin in range(0, rows, step):
        count = min(step, rows - begin)
        left = numbers.take(count, RANK)
        yield torch.addmm(
            numbers.take(count, cols), left, right, beta=half, alpha=half / RANK**0.5
        )


def to_fp8(chunk):
    """E4M3 numbers and a scale for each block of 128 x 128; edges have partial ones."""
    rows, cols = chunk.shape
    tall, wide = -(-rows // BLOCK), -(-cols // BLOCK)
    padded = torch.zeros(tall * BLOCK, wide * BLOCK)
    padded[:rows, :cols] = chunk
    blocks = padded.view(tall, BLOCK, wide, BLOCK)
    scales = blocks.abs().amax(dim=(1, 3)) / torch.finfo(torch.float8_e4m3fn).max
    blocks /= scales[:, None, :, None]
    return padded[:rows, :cols].to(torch.float8_e4m3fn), scales


def as_bytes(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().reshape(-1)


def declare(tensor, fp8):
    """What is stored of a tensor: names, with dtypes and shapes."""
    if fp8 and tensor.role in IN_FP8:
        scales = [-(-size // BLOCK) for size in tensor.shape]
        return {
            tensor.name: ("F8_E4M3", tensor.shape),
            f"{tensor.name}_scale_inv": ("F32", scales),
        }
    return {tensor.name: ("F32" if tensor.role == "bias" else "BF16", tensor.shape)}


class Weights:
    """Makes the bytes of one tensor after the other."""

    def __init__(self, seed, fp8):
        self.numbers = Numbers(seed)
        self.fp8 = fp8
        self.shared = {}

    def right_of(self, tensor):
        """The same for all experts of a layer and kind."""
        if tensor.role != "expert":
            return self.numbers.take(RANK, tensor.shape[-1])
        layer, _, rest = tensor.name.partition(".experts.")
        key = layer, rest.partition(".")[2]
        if key not in self.shared:
            self.shared[key] = self.numbers.take(RANK, tensor.shape[1])
        return self.shared[key]

    def bytes_of(self, tensor):
        """Yields stored names, each with its next bytes."""
        if tensor.role == "norm":
            values = 1 + 0.1 * self.numbers.take(*tensor.shape)
            yield tensor.name, as_bytes(values.to(torch.bfloat16))
        elif tensor.role == "bias":
            yield tensor.name, as_bytes(0.05 * self.numbers.take(*tensor.shape))
        else:
            gain = GAINS.get(tensor.role, 1.0)
            right = self.right_of(tensor)
            # Bases lie one below the other.
            shape = (math.prod(tensor.shape[:-1]), tensor.shape[-1])
            for chunk in matrix_chunks(self.numbers, shape, gain, right):
                if self.fp8 and tensor.role in IN_FP8:
                    values, scales = to_fp8(chunk)
                    yield tensor.name, as_bytes(values)
                    yield f"{tensor.name}_scale_inv", as_bytes(scales)
                else:
                    yield tensor.name, as_bytes(chunk.to(torch.bfloat16))


def size_of(dtype, shape):
    return ITEM_BYTES[dtype] * math.prod(shape)


def bytes_stored(tensor, fp8):
    return sum(size_of(*entry) for entry in declare(tensor, fp8).values())


def split_into_shards(tensors, fp8, limit):
    """Lists of tensors of at most `limit` bytes, or of one larger tensor."""
    shards, room = [], 0
    for tensor in tensors:
        size = bytes_stored(tensor, fp8)
        if not shards or size > room:
            shards.append([])
            room = limit
        shards[-1].append(tensor)
        room -= size
    return shards


def write_shard(path, tensors, weights):
    """A safetensors file, without ever holding more than a few chunks. Returns the
    names in it."""
    entries = {}
    for tensor in tensors:
        entries |= declare(tensor, weights.fp8)
    header, places, end = {"__metadata__": {"format": "pt"}}, {}, 0
    # The widest numbers first, so that all are aligned.
    for name in sorted(entries, key=lambda name: -ITEM_BYTES[entries[name][0]]):
        dtype, shape = entries[name]
        begin, end = end, end + size_of(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        places[name] = begin
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            for name, data in weights.bytes_of(tensor):
                file.seek(8 + len(text) + places[name])
                file.write(data)
                places[name] += len(data)
    return list(entries)


def checkpoint_bytes(config):
    """Of all tensors."""
    fp8 = "quantization_config" in config
    return sum(bytes_stored(tensor, fp8) for tensor in tensors_of(config))


def write_checkpoint(folder, config, seed=0, shard_bytes=5_000_000_000):
    """Writes the model of that config.json. The same arguments give the same bytes, on
    the same processor and torch."""
    fp8 = "quantization_config" in config
    weights = Weights(seed, fp8)
    shards = split_into_shards(tensors_of(config), fp8, shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder}: not empty; name a new or empty folder")
    index = {}
    for number, tensors in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if len(shards) == 1:
            file = "model.safetensors"
        index |= dict.fromkeys(write_shard(folder / file, tensors, weights), file)
    if len(shards) > 1:
        text = {
            "metadata": {"total_size": checkpoint_bytes(config)},
            "weight_map": index,
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(text, indent=1))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--layers", type=int, help="default: the model's")
    parser.add_argument("--experts", type=int, help="of a layer; default: the model's")
    parser.add_argument(
        "--dense-layers",
        type=int,
        help="layers at the beginning that have no experts; default: the model's",
    )
    parser.add_argument(
        "--mtp", action="store_true", help="with the layer for multi-token prediction"
    )
    parser.add_argument(
        "--fp8",
        action=argparse.BooleanOptionalAction,
        help="default: as the model is published",
    )
    parser.add_argument(
        "--divide-widths", type=int, default=1, help="for tests: no true shapes, then"
    )
    parser.add_argument(
        "--bases", type=int, help="factor gate and up of the experts: the native format"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-gb", type=float, default=5)
    a = parser.parse_args()
    try:
        config = make_config(
            a.model,
            a.layers,
            a.experts,
            a.dense_layers,
            a.mtp,
            a.fp8,
            a.divide_widths,
            a.bases,
        )
        write_checkpoint(a.out, config, a.seed, int(a.shard_gb * 1e9))
    except ValueError as error:
        sys.exit(f"make_checkpoint: {error}")
    print(f"{a.model}: {checkpoint_bytes(config) / 1e9:.2f} GB in {a.out}")


if __name__ == "__main__":
    main()
