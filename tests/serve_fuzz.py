#!/usr/bin/env python3
"""Hostile requests to `mobe serve`: bodies, headers and whole connections, mutated from
good ones. Each gets an answer below 500, or a closed connection; the server goes on, and
ends without a complaint (of a sanitizer, say). MOBE names the program."""

import argparse
import json
import random
import re
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
from serving import REPOSITORY, program, serving

MODEL = REPOSITORY / "models/mini-qwen3-moe"
USER = [{"role": "user", "content": "hi"}]
SAMPLING = {
    "model": "m", "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "n": 2,
    "seed": 1, "stop": ["x"], "stop_token_ids": [3], "logit_bias": {"5": 1.5},
    "presence_penalty": 1, "frequency_penalty": 1, "repetition_penalty": 1.1,
    "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
    "max_tokens": 3,
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
GOOD = {
    "/v1/completions": SAMPLING
    | {"prompt": ["a", "b"], "echo": True, "logprobs": 2, "best_of": 2, "suffix": ""},
    "/v1/chat/completions": SAMPLING
    | {
        "messages": USER,
        "tools": [TOOL],
        "tool_choice": "auto",
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": {"type": "text"},
        "chat_template_kwargs": {"x": 1},
        "parallel_tool_calls": False,
    },
    "/v1/messages": {
        "model": "m",
        "max_tokens": 3,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": "ok"}
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {}}],
        "tool_choice": {"type": "auto"},
        "stop_sequences": ["x"],
        "stream": True,
    },
    "/v1/messages/count_tokens": {"messages": USER, "system": "s"},
    "/tokenize": {"prompt": "a b", "add_special_tokens": False},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/apply-template": {"messages": USER, "tools": [TOOL]},
    "/v1/embeddings": {"input": "a"},
}
ODD = [
    None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 2**31, 2**63, 2**64, 10**40, "",
    "x", "\0", "\ud800", "\u202e", "a" * 5000, [], [[]], [None], [1, "x"], {}, {"": {}},
    {"$ref": "#"}, [[1], [2]], "<|im_start|>", "{{ 1 }}", float("nan"), float("inf"),
]  # fmt: skip


def mutate(rng, value, depth=0):
    """The value with something in it changed."""
    if isinstance(value, dict) and value and depth < 6 and rng.random() < 0.9:
        changed = dict(value)
        key = rng.choice(list(changed))
        action = rng.random()
        if action < 0.1:
            del changed[key]
        elif action < 0.2:
            changed[rng.choice(["", "x", "\0", "a" * 300, key + "_"])] = changed[key]
        else:
            changed[key] = mutate(rng, changed[key], depth + 1)
        return changed
    if isinstance(value, list) and value and depth < 6 and rng.random() < 0.8:
        changed = list(value)
        at = rng.randrange(len(changed))
        action = rng.random()
        if action < 0.1:
            return changed * rng.choice([2, 50])
        if action < 0.2:
            del changed[at]
        else:
            changed[at] = mutate(rng, changed[at], depth + 1)
        return changed
    if rng.random() < 0.05:
        for _ in range(rng.choice([3, 70, 300])):
            value = [value]
        return value
    return rng.choice(ODD)


def damaged(rng, data):
    """The bytes with some of them changed, lost or again."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(len(data))
        action = rng.random()
        if action < 0.5:
            data[at] = rng.randrange(256)
        elif action < 0.7:
            del data[at : at + rng.randint(1, 40)]
        else:
            data[at:at] = data[at : at + rng.randint(1, 40)]
    return bytes(data)


def request(rng):
    """The bytes of a request."""
    path = rng.choice(list(GOOD))
    body = GOOD[path]
    for _ in range(rng.randint(0, 3)):
        body = mutate(rng, body)
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        data = damaged(rng, data)
    method = rng.choice(["POST"] * 8 + ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "X"])
    length = len(data) if rng.random() < 0.95 else rng.choice([0, 1, 10**12, -1, "x"])
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
    )
    for _ in range(rng.choice([0, 0, 0, 1, 200])):
        head += f"X-{rng.randrange(99)}: {'v' * rng.choice([1, 100, 9000])}\r\n"
    if rng.random() < 0.1:
        head += rng.choice(
            [
                "Transfer-Encoding: chunked\r\n",
                "Expect: 100-continue\r\n",
                "Content-Encoding: gzip\r\n",
                "Authorization: Bearer \0\r\n",
                "Range: bytes=0-1,5-\r\n",
            ]
        )
    whole = head.encode() + b"Connection: close\r\n\r\n" + data
    return damaged(rng, whole) if rng.random() < 0.2 else whole


def is_whole(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if length:
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n")


def answer_to(address, data):
    """The status, or None for a connection that is closed without one."""
    with socket.create_connection(address, timeout=0.3) as connection:
        got = b""
        try:
            connection.sendall(data)
            try:
                got = connection.recv(65536)
            except TimeoutError:
                # It waits for more of the request: there is none.
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(60)
            while not is_whole(got) and (piece := connection.recv(65536)):
                got += piece
        except ConnectionError:
            pass
    found = re.match(rb"HTTP/1\.1 (\d+)", got)
    return int(found[1]) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    template = REPOSITORY / "tests/data/continue.jinja"
    with serving(program(), MODEL, "--quiet", "--template", template) as server:
        sys.exit(fuzz(server, options))


def fuzz(server, options):
    """Whether there was a fault."""
    rng = random.Random(options.seed)
    address = server.address
    counts, faults = {}, []
    end = time.monotonic() + options.seconds
    while time.monotonic() < end and not faults:
        data = request(rng)
        try:
            status = answer_to(address, data)
        except OSError as error:
            faults.append(f"{error!r} after {data[:2000]}")
            break
        counts[status] = counts.get(status, 0) + 1
        if status is not None and status >= 500 and status not in (501, 503):
            faults.append(f"status {status} for {data[:2000]}")
    code, notes = server.end()
    if code != 0 or notes:
        faults.append(f"exit code {code}: {notes}")
    for fault in faults:
        print(fault)
    shown = ", ".join(f"{n} x {s}" for s, n in sorted(counts.items(), key=str))
    print(f"serve_fuzz: {sum(counts.values())} requests: {shown}; {len(faults)} faults")
    return bool(faults)


main()
