#!/usr/bin/env python3
"""What a server gains from its batches and its cache, as ratios of one run:

  batch   tokens a second of 8 requests at once against 1
  turn    time to the first token of a conversation of 2,000 tokens, and of its next turn

Usage: bench/serve.py MODEL [mobe serve's options]; MOBE names the program."""

import http.client
import json
import random
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/python"))
from serving import program, serving

TOKENS = 32
ROUNDS = 3


def ask(address, prompt, tokens):
    """Seconds to the first token and to the last."""
    connection = http.client.HTTPConnection(*address)
    begin = time.monotonic()
    body = {
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    connection.request(
        "POST",
        "/v1/completions",
        json.dumps(body),
        {"Content-Type": "application/json"},
    )
    answer = connection.getresponse()
    first = None
    while line := answer.readline():
        if first is None and line.startswith(b"data: "):
            first = time.monotonic() - begin
    connection.close()
    return first, time.monotonic() - begin


def together(address, prompts):
    """Tokens a second of all."""
    threads = [
        threading.Thread(target=ask, args=(address, p, TOKENS)) for p in prompts
    ]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(prompts) * TOKENS / (time.monotonic() - begin)


def main():
    with serving(program(), sys.argv[1], "--quiet", *sys.argv[2:]) as server:
        measure(server.address)


def measure(address):
    rng = random.Random(1)

    def prompt(tokens):
        return [rng.randrange(256) for _ in range(tokens)]

    together(address, [prompt(8)])  # pages of the weights
    alone, eight, first, second = [], [], [], []
    for _ in range(ROUNDS):
        alone.append(together(address, [prompt(8)]))
        eight.append(together(address, [prompt(8) for _ in range(8)]))
        conversation = prompt(2000)
        first.append(ask(address, conversation, 1)[0])
        second.append(ask(address, conversation + prompt(30), 1)[0])
    alone, eight, first, second = map(statistics.median, (alone, eight, first, second))
    print(f"1 request   {alone:8.1f} tok/s")
    print(f"8 requests  {eight:8.1f} tok/s   {eight / alone:.2f} times")
    print(f"2000 tokens {first * 1e3:8.1f} ms to the first token")
    print(f"next turn   {second * 1e3:8.1f} ms   {first / second:.1f} times less")


main()
