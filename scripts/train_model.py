#!/usr/bin/env python3
"""Trains a small Qwen3-MoE on English text, on a CPU.

    train_model.py TEXT.jsonl WORK --minutes 70       # trains, or goes on
    train_model.py TEXT.jsonl WORK --export FOLDER    # writes the model that WORK holds

TEXT.jsonl is what scripts/training_text.py writes. WORK gets the tokenizer, the tokens
and checkpoint.pt, from which the same command goes on. Recipe: seed 1, every 100th
document held out, windows of 512 tokens in random order, 16 a step; AdamW for
embeddings, norms and routers, Muon for matrices; a constant rate after 40 steps that
falls to 0 over the last fifth of the minutes; the load-balancing loss of Qwen3-MoE
with factor 0.01, no token dropped. Two processes with a thread each share a step: that
is faster than two threads that wait for each other at every product.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import torch
import torch.distributed as dist
import torch.nn.functional as F

SEED = 1
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY, WIDTH, LAYERS, EXPERTS, CHOSEN, INNER = 4096, 256, 6, 32, 4, 96
HEADS, KEY_HEADS, HEAD, EPSILON, THETA = 8, 2, 32, 1e-6, 10000.0
WINDOW, PER_STEP = 512, 16
MUON_RATE, ADAM_RATE, BALANCE, WARM_UP, DECAY = 0.02, 0.004, 0.01, 40, 0.2

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def prepare(text_file, work):
    """Tokenizer and tokens, once."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    documents = [json.loads(line)["text"] for line in open(text_file, encoding="utf-8")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents[::3], trainer)
    tokenizer.save(str(work / "tokenizer.json"))
    for name, part in (
        ("held_out", documents[::100]),
        ("train", [d for i, d in enumerate(documents) if i % 100]),
    ):
        ids = []
        for encoding in tokenizer.encode_batch(part):
            ids += [0, *encoding.ids]
        numpy.save(work / f"{name}.npy", numpy.array(ids, dtype=numpy.uint16))
        print(f"{name}: {len(ids)} tokens, {sum(len(d.encode()) for d in part)} bytes", flush=True)


class Experts(torch.autograd.Function):
    """Every token through its experts: rows sorted by expert, a product for each. The
    router's weight multiplies the inner activations, before the last product."""

    @staticmethod
    def forward(ctx, x, weights, chosen, gate_up, down):
        order = torch.argsort(chosen.flatten(), stable=True)
        back = torch.argsort(order)
        bounds = [0, *torch.bincount(chosen.flatten(), minlength=EXPERTS).cumsum(0).tolist()]
        rows = x[order // CHOSEN]
        both = rows.new_empty(len(rows), 2 * INNER)
        for e in range(EXPERTS):
            part = slice(bounds[e], bounds[e + 1])
            torch.mm(rows[part], gate_up[e].T, out=both[part])
        gate, up = both[:, :INNER], both[:, INNER:]
        weight = weights.flatten()[order].to(x.dtype)[:, None]
        inner = F.silu(gate) * up
        scaled = inner * weight
        out = torch.empty_like(rows)
        for e in range(EXPERTS):
            part = slice(bounds[e], bounds[e + 1])
            torch.mm(scaled[part], down[e].T, out=out[part])
        ctx.save_for_backward(rows, both, inner, scaled, weight, order, back, gate_up, down)
        ctx.bounds = bounds
        return out[back].view(len(x), CHOSEN, -1).sum(1)

    @staticmethod
    def backward(ctx, grad):
        rows, both, inner, scaled, weight, order, back, gate_up, down = ctx.saved_tensors
        grad = grad[order // CHOSEN]
        grad_scaled, grad_down = torch.empty_like(scaled), torch.empty_like(down)
        grad_rows, grad_gate_up = torch.empty_like(rows), torch.empty_like(gate_up)
        parts = [slice(a, b) for a, b in zip(ctx.bounds, ctx.bounds[1:])]
        for e, part in enumerate(parts):
            torch.mm(grad[part], down[e], out=grad_scaled[part])
            torch.mm(grad[part].T, scaled[part], out=grad_down[e])
        grad_weight = (grad_scaled * inner).sum(1, dtype=torch.float32)
        grad_inner = grad_scaled * weight
        gate, up = both[:, :INNER], both[:, INNER:]
        sigmoid = torch.sigmoid(gate)
        swish = gate * sigmoid
        grad_both = torch.cat(
            [grad_inner * up * (sigmoid + swish * (1 - sigmoid)), grad_inner * swish], 1
        )
        for e, part in enumerate(parts):
            torch.mm(grad_both[part], gate_up[e], out=grad_rows[part])
            torch.mm(grad_both[part].T, rows[part], out=grad_gate_up[e])
        tokens = len(rows) // CHOSEN
        return (
            grad_rows[back].view(tokens, CHOSEN, -1).sum(1),
            grad_weight[back].view(tokens, CHOSEN),
            None,
            grad_gate_up,
            grad_down,
        )


class Loss(torch.autograd.Function):
    """Mean cross entropy, in chunks, so that not all logits are held at once."""

    @staticmethod
    def forward(ctx, x, head, targets):
        grad_x, grad_head, total = torch.empty_like(x), torch.zeros(head.shape), 0.0
        for start in range(0, len(x), 1024):
            part, wanted = x[start : start + 1024], targets[start : start + 1024]
            logits = (part @ head.T).float()
            chances = logits.log_softmax(1)
            total -= chances.gather(1, wanted[:, None]).sum().item()
            chances.exp_()
            chances[torch.arange(len(part)), wanted] -= 1
            chances = (chances / len(x)).to(x.dtype)
            grad_x[start : start + 1024] = chances @ head
            grad_head += chances.T @ part
        ctx.save_for_backward(grad_x, grad_head.to(x.dtype))
        return torch.tensor(total / len(x))

    @staticmethod
    def backward(ctx, grad):
        grad_x, grad_head = ctx.saved_tensors
        return grad_x * grad, grad_head * grad, None


def shapes():
    """Name, shape, deviation at the start (None: ones)."""
    yield "embed", (VOCABULARY, WIDTH), 0.02
    for i in range(LAYERS):
        yield f"{i}.norm1", (WIDTH,), None
        yield f"{i}.q", (HEADS * HEAD, WIDTH), 0.06
        yield f"{i}.k", (KEY_HEADS * HEAD, WIDTH), 0.06
        yield f"{i}.v", (KEY_HEADS * HEAD, WIDTH), 0.06
        yield f"{i}.q_norm", (HEAD,), None
        yield f"{i}.k_norm", (HEAD,), None
        yield f"{i}.o", (WIDTH, HEADS * HEAD), 0.0
        yield f"{i}.norm2", (WIDTH,), None
        yield f"{i}.router", (EXPERTS, WIDTH), 0.02
        yield f"{i}.gate_up", (EXPERTS, 2 * INNER, WIDTH), 0.06
        # Small, not 0: an expert that adds nothing teaches its router nothing.
        yield f"{i}.down", (EXPERTS, WIDTH, INNER), 0.01
    yield "norm", (WIDTH,), None


def is_matrix(name):
    return name.split(".")[-1] in ("q", "k", "v", "o", "gate_up", "down")


def start_weights():
    torch.manual_seed(SEED)
    return {n: torch.ones(s) if d is None else torch.randn(s) * d for n, s, d in shapes()}


def norm(x, weight):
    return F.rms_norm(x, (x.shape[-1],), weight, EPSILON)


def rotate(x, cosine, sine):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


def forward(w, ids):
    """(loss, balance): ids is [texts, WINDOW + 1]. Products are in bfloat16, the sum of
    layers in float32."""
    inputs, targets = ids[:, :-1], ids[:, 1:].flatten()
    texts, length = inputs.shape
    half = w["embed"].bfloat16()
    x = F.embedding(inputs, w["embed"]).view(-1, WIDTH)
    angles = torch.arange(length)[:, None] * THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
    cosine, sine = angles.cos().bfloat16(), angles.sin().bfloat16()
    balance = 0.0
    for i in range(LAYERS):
        p = {n.split(".")[1]: v for n, v in w.items() if n.startswith(f"{i}.")}
        y = norm(x, p["norm1"]).bfloat16()
        qkv = y @ torch.cat([p["q"], p["k"], p["v"]]).bfloat16().T
        q, k, v = (
            qkv.view(texts, length, -1, HEAD)
            .transpose(1, 2)
            .split([HEADS, KEY_HEADS, KEY_HEADS], 1)
        )
        q = rotate(norm(q, p["q_norm"].bfloat16()), cosine, sine)
        k = rotate(norm(k, p["k_norm"].bfloat16()), cosine, sine)
        k, v = (t.repeat_interleave(HEADS // KEY_HEADS, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(-1, HEADS * HEAD) @ p["o"].bfloat16().T
        x = x + y
        y = norm(x, p["norm2"])
        chances = (y @ p["router"].T).softmax(-1)
        weights, chosen = chances.topk(CHOSEN, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        share = torch.bincount(chosen.flatten(), minlength=EXPERTS) / len(x)
        balance = balance + (share * chances.mean(0)).sum() * EXPERTS / LAYERS
        x = x + Experts.apply(
            y.bfloat16(), weights, chosen, p["gate_up"].bfloat16(), p["down"].bfloat16()
        )
    return Loss.apply(norm(x, w["norm"]).bfloat16(), half, targets), balance


def orthogonal(m):
    """The nearest (half-)orthogonal matrices, roughly: Newton-Schulz with Muon's coefficients."""
    tall = m.shape[-2] > m.shape[-1]
    m = m.transpose(-1, -2) if tall else m
    m = (m / (m.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16().contiguous()
    for _ in range(5):
        a = m @ m.transpose(-1, -2)
        b = -4.7750 * a + 2.0315 * (a @ a)
        m = 3.4445 * m + b @ m
    return m.transpose(-1, -2) if tall else m


def muon_direction(name, m):
    if name.endswith("gate_up"):  # Two matrices that are multiplied at once.
        m = m.view(2 * EXPERTS, INNER, WIDTH)
    out = orthogonal(m) * max(1, m.shape[-2] / m.shape[-1]) ** 0.5
    return out.reshape(-1)


def train(rank, world, work, minutes):
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{work}/meet", rank=rank, world_size=world
        )
    tokens = torch.from_numpy(numpy.load(work / "train.npy").astype(numpy.int32))
    held_out = torch.from_numpy(numpy.load(work / "held_out.npy").astype(numpy.int64))
    names = [n for n, _, _ in shapes()]
    start = start_weights()
    sizes = [start[n].numel() for n in names]
    # All weights are one buffer, and so are gradients and what the optimizers remember.
    flat = torch.cat([start[n].flatten() for n in names])
    gradient, first, second = (torch.zeros_like(flat) for _ in range(3))
    step, spent = 0, 0.0
    if (work / "checkpoint.pt").exists():
        saved = torch.load(work / "checkpoint.pt")
        flat, first, second, step, spent = (
            saved[k] for k in ("flat", "first", "second", "step", "spent")
        )
    w = {n: p.view(start[n].shape) for n, p in zip(names, flat.split(sizes))}
    g = {n: p.view(start[n].shape) for n, p in zip(names, gradient.split(sizes))}
    for n in names:
        w[n].requires_grad_()
        w[n].grad = g[n]
    matrices = [n for n in names if is_matrix(n)]
    rest = torch.cat([torch.full((s,), not is_matrix(n)) for n, s in zip(names, sizes)])
    # The rest is no slice but a few: they are gathered to update them together.
    rest = rest.nonzero().flatten()
    ends = dict(zip(names, numpy.cumsum(sizes).tolist()))
    per_epoch = (len(tokens) - 1) // WINDOW
    mine = PER_STEP // world
    begun, saved_at, epoch, order = time.time() - spent, time.time(), -1, None
    report_loss, reported = [], time.time()
    while True:
        spent = time.time() - begun
        clock = torch.tensor([spent])
        if world > 1:
            dist.broadcast(clock, 0)
        progress = clock.item() / (60 * minutes)
        if progress >= 1:
            break
        rate = min(1, (step + 1) / WARM_UP, (1 - progress) / DECAY)
        windows = []
        for place in range(step * PER_STEP + rank * mine, step * PER_STEP + (rank + 1) * mine):
            if place // per_epoch != epoch:
                epoch = place // per_epoch
                order = torch.randperm(
                    per_epoch, generator=torch.Generator().manual_seed(SEED + epoch)
                )
            at = order[place % per_epoch].item() * WINDOW
            windows.append(tokens[at : at + WINDOW + 1])
        gradient.zero_()
        loss, balance = forward(w, torch.stack(windows).long())
        (loss + BALANCE * balance).backward()
        with torch.no_grad():
            if world > 1:
                dist.all_reduce(gradient)
                gradient /= world
            step += 1
            part = gradient[rest]
            m = first[rest].lerp_(part, 0.1)
            s = second[rest].lerp_(part * part, 0.05)
            first[rest], second[rest] = m, s
            flat[rest] -= (
                rate * ADAM_RATE * (m / (1 - 0.9**step)) / ((s / (1 - 0.95**step)).sqrt() + 1e-8)
            )
            # Each process orthogonalises its share; sums of shares put them together.
            update = torch.zeros_like(flat)
            for number, n in enumerate(matrices):
                piece = slice(ends[n] - w[n].numel(), ends[n])
                first[piece] = 0.95 * first[piece] + gradient[piece]
                if number % world == rank:
                    m = gradient[piece] + 0.95 * first[piece]
                    update[piece] = muon_direction(n, m.view(w[n].shape)).float()
            if world > 1:
                dist.all_reduce(update)
            flat -= rate * MUON_RATE * update
        report_loss.append(loss.item())
        if rank == 0 and (step % 10 == 0 or step < 5):
            now = time.time()
            speed = len(report_loss) * PER_STEP * WINDOW / (now - reported)
            print(
                f"step {step} {spent / 60:.1f} min loss {sum(report_loss) / len(report_loss):.3f} "
                f"balance {balance.item():.3f} rate {rate:.2f} {speed:.0f} tokens/s",
                flush=True,
            )
            report_loss, reported = [], now
        if rank == 0 and time.time() - saved_at > 300:
            save(work, flat, first, second, step, time.time() - begun)
            saved_at = time.time()
    if rank == 0:
        save(work, flat, first, second, step, 60 * minutes)
        print(
            f"{step} steps, {step * PER_STEP * WINDOW} tokens, "
            f"held-out loss {held_out_loss(w, held_out):.4f}"
        )


def save(work, flat, first, second, step, spent):
    torch.save(
        {"flat": flat, "first": first, "second": second, "step": step, "spent": spent},
        work / "checkpoint.new",
    )
    os.replace(work / "checkpoint.new", work / "checkpoint.pt")


@torch.no_grad()
def held_out_loss(w, tokens):
    count = (len(tokens) - 1) // WINDOW
    losses = [
        forward(
            w,
            torch.stack(
                [tokens[i * WINDOW : (i + 1) * WINDOW + 1] for i in range(a, min(a + 8, count))]
            ),
        )[0]
        * (min(a + 8, count) - a)
        for a in range(0, count, 8)
    ]
    return float(sum(losses) / count)


def export(work, folder):
    """The checkpoint as transformers keeps a Qwen3-MoE, in bfloat16."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    saved = torch.load(work / "checkpoint.pt")
    pieces = saved["flat"].split([math.prod(s) for _, s, _ in shapes()])
    w = {n: p.view(s).bfloat16() for (n, s, _), p in zip(shapes(), pieces)}
    tensors = {"model.embed_tokens.weight": w["embed"], "model.norm.weight": w["norm"]}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        tensors[at + "input_layernorm.weight"] = w[f"{i}.norm1"]
        tensors[at + "post_attention_layernorm.weight"] = w[f"{i}.norm2"]
        tensors[at + "mlp.gate.weight"] = w[f"{i}.router"]
        for n in ("q", "k", "v", "o"):
            tensors[f"{at}self_attn.{n}_proj.weight"] = w[f"{i}.{n}"]
        for n in ("q_norm", "k_norm"):
            tensors[f"{at}self_attn.{n}.weight"] = w[f"{i}.{n}"]
        for e in range(EXPERTS):
            gate, up = w[f"{i}.gate_up"][e].split(INNER)
            for n, m in (("gate", gate), ("up", up), ("down", w[f"{i}.down"][e])):
                tensors[f"{at}mlp.experts.{e}.{n}_proj.weight"] = m
    # Shards of about 12 MB.
    shards, size = [{}], 0
    for n in sorted(tensors):
        if size > 12e6:
            shards, size = [*shards, {}], 0
        shards[-1][n] = tensors[n].clone()
        size += tensors[n].numel() * 2
    index = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, file)
    numbers = sum(t.numel() for t in tensors.values())

    def write(name, value):
        (folder / name).write_text(
            json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    write(
        "model.safetensors.index.json",
        {"metadata": {"total_parameters": numbers, "total_size": 2 * numbers}, "weight_map": index},
    )
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    write(
        "config.json",
        {
            "architectures": ["Qwen3MoeForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "decoder_sparse_step": 1,
            "dtype": "bfloat16",
            "head_dim": HEAD,
            "hidden_act": "silu",
            "hidden_size": WIDTH,
            "initializer_range": 0.02,
            "intermediate_size": 2 * WIDTH,
            # Trained on windows of WINDOW: rotary embedding goes on a little beyond.
            "max_position_embeddings": 2048,
            "mlp_only_layers": [],
            "model_type": "qwen3_moe",
            "moe_intermediate_size": INNER,
            "norm_topk_prob": True,
            "num_attention_heads": HEADS,
            "num_experts": EXPERTS,
            "num_experts_per_tok": CHOSEN,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KEY_HEADS,
            "output_router_logits": False,
            "rms_norm_eps": EPSILON,
            "rope_scaling": None,
            "rope_theta": THETA,
            "router_aux_loss_coef": BALANCE,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": VOCABULARY,
        }
        | ends,
    )
    write("generation_config.json", {"do_sample": True, "temperature": 0.7, "top_p": 0.9} | ends)
    write(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": SPECIAL[0],
            "pad_token": SPECIAL[0],
            "model_max_length": 2048,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    Tokenizer.from_file(str(work / "tokenizer.json")).save(str(folder / "tokenizer.json"))
    print(f"{numbers} parameters after {saved['step'] * PER_STEP * WINDOW} tokens, in {folder}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=70, help="of training, all runs together")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "train.npy").exists():
        prepare(arguments.text, work)
    if arguments.export:
        return export(work, arguments.export)
    (work / "meet").unlink(missing_ok=True)
    torch.multiprocessing.spawn(
        train, (arguments.processes, work, arguments.minutes), nprocs=arguments.processes
    )


if __name__ == "__main__":
    main()
