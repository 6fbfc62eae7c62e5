#!/usr/bin/env python3
"""Holds `mobe serve` against transformers by lm-eval, the program that people measure
with: the same model by `local-completions` over HTTP and by `hf`, on two tasks of
log-likelihoods and on WikiText. scripts/lm_eval.sh makes its environment.

Usage: scripts/compare_lm_eval.py DATA [--items 200] [--model FOLDER]
DATA has commonsense/ARC-Easy/test.json (LLM-Adapters' form),
commonsense/hellaswag/val_sample1000.jsonl and wikitext-2/raw/wiki.test.raw."""

import argparse
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/python"))
from serving import REPOSITORY, program, serving

CONTEXT = 1024


def arc(text):
    """Documents in the form of allenai/ai2_arc."""
    for entry in json.loads(text):
        found = re.match(
            r"Please choose the correct answer to the question: (.*)\n\n(Answer1: .*)\n\n",
            entry["instruction"],
            re.S,
        )
        choices = re.split(r" ?Answer\d: ", found[2])[1:]
        labels = "ABCDE"[: len(choices)]
        yield {
            "question": found[1],
            "choices": {"text": choices, "label": list(labels)},
            "answerKey": labels[int(entry["answer"][-1]) - 1],
        }


def hellaswag(text):
    return map(json.loads, text.splitlines())


def wikitext(text):
    pages = re.split(r"(?m)^(?= = [^=]+ = \n)", text)
    return ({"page": page} for page in pages if page.strip())


# Task of lm-eval -> its documents and their split.
TASKS = {
    "arc_easy": ("commonsense/ARC-Easy/test.json", arc, "test"),
    "hellaswag": ("commonsense/hellaswag/val_sample1000.jsonl", hellaswag, "validation"),
    "wikitext": ("wikitext-2/raw/wiki.test.raw", wikitext, "test"),
}


def write_tasks(data, folder):
    import lm_eval

    tasks = Path(lm_eval.__file__).parent / "tasks"
    for name, (file, read, split) in TASKS.items():
        documents = folder / f"{name}.jsonl"
        lines = map(json.dumps, read((data / file).read_text()))
        documents.write_text("\n".join(lines) + "\n")
        [original] = tasks.glob(f"*/{name}.yaml")
        (folder / f"{name}.yaml").write_text(
            f"include: {original}\ntask: local_{name}\ndataset_path: json\n"
            f"dataset_name: null\ntag: null\ntraining_split: null\n"
            f"validation_split: {split if split != 'test' else 'null'}\n"
            f"test_split: {split if split == 'test' else 'null'}\n"
            f"dataset_kwargs: {{data_files: {{{split}: {documents}}}}}\n"
        )


def evaluate(kind, arguments, tasks, items):
    import lm_eval
    from lm_eval.tasks import TaskManager

    result = lm_eval.simple_evaluate(
        model=kind,
        model_args=arguments,
        tasks=[f"local_{name}" for name in TASKS],
        limit=items,
        task_manager=TaskManager(include_path=str(tasks)),
        bootstrap_iters=0,
        log_samples=True,
    )
    return result["results"], result["samples"]


def likelihoods(samples):
    """Of each answer of each document."""
    return [
        value[0] if isinstance(value, (list, tuple)) else value
        for sample in sorted(samples, key=lambda s: s["doc_id"])
        for value in sample["filtered_resps"]
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "models/mini-qwen3-moe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": folder}
        tasks = Path(folder)
        write_tasks(options.data, tasks)
        exact = ("--quiet", "--dtype", "float32", "--cache", "f32")
        with serving(program(), options.model, *exact) as server:
            ours, our_samples = evaluate(
                "local-completions",
                {
                    "model": "mobe",
                    "base_url": f"{server.url}/v1/completions",
                    "tokenizer": str(options.model),
                    "tokenizer_backend": "huggingface",
                    # It takes one off for a token that is generated, and one for the
                    # context of a window.
                    "max_length": CONTEXT + 2,
                    "num_concurrent": 8,
                },
                tasks,
                options.items,
            )
        theirs, their_samples = evaluate(
            "hf",
            {
                "pretrained": str(options.model),
                "dtype": "float32",
                "max_length": CONTEXT,
                "device": "cpu",
            },
            tasks,
            options.items,
        )
    faults = 0
    for name in ours:
        a, b = likelihoods(our_samples[name]), likelihoods(their_samples[name])
        difference = max(abs(x - y) for x, y in zip(a, b, strict=True))
        print(f"{name}: {len(our_samples[name])} items, {len(a)} log-likelihoods, largest")
        print(f"  difference {difference:.2e}")
        for metric, value in theirs[name].items():
            if not isinstance(value, float) or "stderr" in metric:
                continue
            same = math.isclose(ours[name][metric], value, rel_tol=1e-3)
            if "acc" in metric:
                same = ours[name][metric] == value
            faults += not same
            print(f"  {metric}: mobe {ours[name][metric]:.6f}, transformers {value:.6f}")
        # Of a page it is a sum of thousands; perplexity is what counts there.
        faults += difference > 1e-2 and "wikitext" not in name
    print(f"lm_eval: {faults} faults")
    sys.exit(faults > 0)


main()
