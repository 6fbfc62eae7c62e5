#!/usr/bin/env python3
"""Many clients of one `mobe serve`, a third of which go away in the midst of an answer:
no error but 429 and 503, every whole answer as it is given alone, memory flat, and an
end without a complaint (of a sanitizer, say). MOBE names the program."""

import argparse
import http.client
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "python"))
from serving import REPOSITORY, program, serving

MODEL = REPOSITORY / "models/mini-qwen3-moe"
# In float32, where a text's tokens don't depend on who is beside it.
SERVING = "--quiet --dtype float32 --cache f32 --queue 40".split()
WORDS = "castle river war music film city ship game season storm bridge king".split()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def body(prompt, tokens, stream):
    return json.dumps(
        {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": stream}
    )


def ask(address, prompt, tokens, stream, leave=None):
    """Status and text; None for what was left after `leave` seconds."""
    connection = http.client.HTTPConnection(*address, timeout=120)
    try:
        connection.request(
            "POST",
            "/v1/completions",
            body(prompt, tokens, stream),
            {"Content-Type": "application/json"},
        )
        if leave is not None:
            connection.sock.settimeout(leave)
            try:
                connection.getresponse().read()
            except TimeoutError:
                pass
            return None, None
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        return answer.status, text
    if not stream:
        return 200, json.loads(text)["choices"][0]["text"]
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: {")]
    return 200, "".join(json.loads(line)["choices"][0]["text"] for line in lines)


def resident(process):
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.faults = []

    def add(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fault(self, what):
        with self.lock:
            self.faults.append(what)


def client(address, expected, end, rng, tally):
    while time.monotonic() < end:
        prompt, tokens = rng.choice(list(expected))
        leave = rng.uniform(0.001, 0.3) if rng.random() < 1 / 3 else None
        try:
            status, text = ask(address, prompt, tokens, rng.random() < 0.5, leave)
        except OSError as error:
            tally.fault(f"{prompt!r}: {error!r}")
            continue
        if status is None:
            tally.add("left")
        elif status in (429, 503):
            tally.add("refused")
            time.sleep(0.05)
        elif status != 200:
            tally.fault(f"{prompt!r}: status {status}: {text}")
        elif text != expected[prompt, tokens]:
            tally.fault(f"{prompt!r}: {text!r}, alone {expected[prompt, tokens]!r}")
        else:
            tally.add("right")


def main():
    options = arguments()
    with serving(program(), MODEL, *SERVING) as server:
        sys.exit(load(server, options))


def load(server, options):
    """Whether there was a fault."""
    rng = random.Random(options.seed)
    process, address = server.process, server.address
    expected = {}
    for _ in range(24):
        prompt = " ".join(rng.choices(WORDS, k=rng.randint(1, 24)))
        tokens = rng.randint(1, 48)
        expected[prompt, tokens] = ask(address, prompt, tokens, False)[1]
    tally = Tally()
    begin = time.monotonic()
    threads = [
        threading.Thread(
            target=client,
            args=(
                address,
                expected,
                begin + options.seconds,
                random.Random(options.seed * 1000 + i),
                tally,
            ),
        )
        for i in range(options.clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(options.seconds / 3)
    early = resident(process)
    for thread in threads:
        thread.join()
    late = resident(process)
    code, notes = server.end()
    if code != 0 or notes:
        tally.fault(f"exit code {code}: {notes}")
    # Caches fill, and allocators keep what they had.
    if late > 1.2 * early + (32 << 20):
        tally.fault(f"{early >> 20} MiB became {late >> 20} MiB")
    for fault in tally.faults[:10]:
        print(fault)
    print(
        f"serve_load: {options.clients} clients, {options.seconds:.0f} s: {tally.counts}, "
        f"{early >> 20} MiB, then {late >> 20} MiB, {len(tally.faults)} faults"
    )
    return bool(tally.faults) or "right" not in tally.counts


main()
