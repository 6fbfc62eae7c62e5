#!/usr/bin/env python3
"""What compressing a large model takes on a cluster: memory, disk, network and
hours, from one measured number, what a node reaches in a pass.

    scripts/plan_cluster.py deepseek-v3 --gflops 1000 --nodes 29 58

GFLOP/s of a node, from the seconds of a pass of any model on it (mobe compress
--trace): (8 n p r d + 6 n m r d) / seconds / 1e9. docs/cluster.md explains.
"""

import argparse
import math

# layers: those with experts. n experts of p x d, m bases, in so many groups;
# parameters of the whole model; bytes of a stored weight as published. From each
# config.json and the settings of arXiv 2508.05257.
MODELS = {
    "qwen3-30b": dict(layers=48, n=128, p=768, d=2048, m=32, total=30.5e9, stored=2),
    "qwen3-235b": dict(layers=94, n=128, p=1536, d=4096, m=32, total=235e9, stored=2),
    "deepseek-v3": dict(layers=58, n=256, p=2048, d=7168, m=64, total=671e9, stored=1),
    "kimi-k2": dict(layers=60, n=384, p=2048, d=7168, m=128, groups=2, total=1026e9, stored=1),
    # Of these the paper says nothing: 75% of the expert weights (docs/presets.md).
    "qwen3-next-80b": dict(layers=48, n=512, p=512, d=2048, m=193, total=79.7e9, stored=2),
    "glm-4.5": dict(layers=89, n=160, p=1536, d=5120, m=52, total=352.8e9, stored=2),
    "glm-4.5-air": dict(layers=45, n=128, p=1408, d=4096, m=36, total=106.9e9, stored=2),
    "minimax-m2": dict(layers=62, n=256, p=1536, d=3072, m=32, total=228.7e9, stored=1),
}
KINDS = 2  # gate and up
OUT_BYTES = 2  # bf16


def pass_operations(model):
    """Products with A, and to and from the mix of bases (docs/fit.md)."""
    n, p, d, m = (model[key] for key in "npdm")
    in_group = m // model.get("groups", 1)
    return 8 * n * p * p * d + 6 * n * in_group * p * d


def sizes(model, threads):
    """Bytes of one job, of the input and of the output."""
    n, p, d, m = (model[key] for key in "npdm")
    groups = model.get("groups", 1)
    factors = n * p * p + m * p * d + n * m // groups
    saved = model["layers"] * KINDS * (n * p * d - factors)
    in_group = n // groups  # of the experts; groups are fitted in turn
    return {
        # As FitBytes in src/compress/plan.cc.
        "memory": 2 * n * p * d
        + in_group * (4 * p * d + 4 * p * p)
        + 4 * max((in_group + 7) // 8, 16) * p * d
        + 14 * m // groups * p * d
        + 16 * (2 * p * d + 4 * p * p)
        + 10 * d * d
        + threads * 16 * p * d,
        "job_in": n * p * d * model["stored"],
        "job_out": factors * OUT_BYTES,
        "model": model["total"] * model["stored"],
        "out": (model["total"] - saved) * OUT_BYTES,
    }


def hours(model, nodes, arguments):
    """Of the fits, of the start (rank 0 reads all twice: hash, check), and of
    what is left to write at the end. The rest of the writing is behind fits."""
    bytes_of = sizes(model, arguments.threads)
    jobs = model["layers"] * KINDS
    rounds = math.ceil(jobs / nodes)
    job = arguments.passes * pass_operations(model) / (arguments.gflops * 1e9)
    disk = arguments.disk * 1e9
    io = (bytes_of["job_in"] + bytes_of["job_out"]) * min(nodes, jobs) / disk
    # The last round may all be slow ones, each by the noise.
    fit = rounds * io + rounds * job * (1 + arguments.noise / math.sqrt(rounds))
    start = 2 * bytes_of["model"] / disk
    end = 2 * min(nodes, jobs) * bytes_of["job_out"] / disk
    return fit / 3600, start / 3600, end / 3600, jobs * job / (nodes * fit)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--gflops", type=float, required=True, help="of a node")
    parser.add_argument("--nodes", type=int, nargs="+", required=True)
    parser.add_argument("--passes", type=int, default=500)
    parser.add_argument("--threads", type=int, default=64, help="of a node")
    parser.add_argument("--noise", type=float, default=0.1, help="of job times")
    parser.add_argument("--disk", type=float, default=2, help="GB/s of the shared file system")
    arguments = parser.parse_args()
    model = MODELS[arguments.model]
    size = sizes(model, arguments.threads)
    seconds = pass_operations(model) / (arguments.gflops * 1e9)
    print(f"{arguments.model}: {model['layers'] * KINDS} jobs, one takes:")
    print(f"  a pass       {pass_operations(model):.2e} operations, {seconds:.1f} s")
    print(f"  a fit        {arguments.passes} passes, {arguments.passes * seconds / 3600:.2f} h")
    print(f"  memory       {size['memory'] / 1e9:.0f} GB")
    print(f"  network      {size['job_in'] / 1e9:.1f} GB in, {size['job_out'] / 1e9:.1f} GB out")
    print(f"disk           {size['model'] / 1e9:.0f} GB model, {size['out'] / 1e9:.0f} GB result")
    print(f"  and parts    {model['layers'] * KINDS * size['job_out'] / 1e9:.0f} GB with --shard")
    print("nodes   hours   of that start   and end   busy")
    for nodes in arguments.nodes:
        fit, start, end, busy = hours(model, nodes, arguments)
        print(f"{nodes:5}  {fit + start + end:6.1f}  {start:14.1f}  {end:8.1f}  {busy:5.2f}")


if __name__ == "__main__":
    main()
