"""Each variant of the method, by the tensors and config.json that docs/interop.md
describes: built in torch from these alone, put into stock transformers, and compared
with what mobe computes from the small form and from the reconstructed one."""

import json

import pytest
import torch
from checkpoints import load_native, load_stock, logits_of, sample_ids, tensors_of

TOLERANCE = 1e-3
LAYERS = [1, 2]
ACTIVATIONS = {
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
}
VARIANTS = {
    "down": ["--kinds", "down", "--bases", 4],
    "all": ["--kinds", "gate,up,down", "--bases", 4],
    "rank": ["--bases", 4, "--rank", 20],
    "low-rank": ["--bases", 4, "--basis-rank", 8],
    "sparse": ["--kinds", "gate,up,down", "--bases", 6, "--alphas", 2],
    "everything": [
        *("--kinds", "gate,down", "--bases", 5, "--rank", 24, "--basis-rank", 9),
        *("--alphas", 3, "--activation", "identity"),
    ],
}


@pytest.fixture(scope="module", params=VARIANTS)
def small(request, mobe, data, tmp_path_factory):
    """A folder, and what compress said of it."""
    out = tmp_path_factory.mktemp("variants") / request.param
    original = data / "models/qwen3_moe"
    options = [*VARIANTS[request.param], "--budget", 20]
    return out, mobe("compress", original, out, *options, "--json")


def build_all(folder):
    """The factored matrices in float32, under the names of the original."""
    mobe = json.loads((folder / "config.json").read_text())["mobe"]
    assert mobe["version"] == 2
    f = ACTIVATIONS[mobe["activation"]]
    tensors = {name: t.float() for name, t in tensors_of(folder).items()}
    built = {}
    for row in mobe["factors"]:
        kind = row["matrix"]
        for layer in row["layers"]:
            mlp = f"model.layers.{layer}.mlp"
            if "basis_rank" in row:
                left, right = (tensors[f"{mlp}.B_{kind}_{x}"] for x in "UV")
                assert left.shape[2] == right.shape[1] == row["basis_rank"]
                bases = left @ right
            else:
                bases = tensors[f"{mlp}.B_{kind}"]
            assert bases.shape[:2] == (row["num_B"], row["rank"])
            for e, alpha in enumerate(tensors[f"{mlp}.W_{kind}"]):
                name = f"{mlp}.experts.{e}.{kind}_proj.weight"
                w = tensors[name] @ f(torch.tensordot(alpha, bases, 1))
                built[name] = w.T if kind == "down" else w
    return built


def test_transformers_gives_our_logits(small, data, mobe_logits):
    folder, _ = small
    stock = load_stock(data / "models/qwen3_moe")
    with torch.no_grad():
        for name, matrix in build_all(folder).items():
            stock.get_parameter(name).copy_(matrix)
    ids = sample_ids(stock.config.vocab_size)
    logits = logits_of(stock, ids)
    for mode in ("built", "fused"):
        ours = mobe_logits(folder, ids, "--experts", mode)
        assert (ours - logits).abs().max() < TOLERANCE


def test_reconstructed_loads_in_transformers(small, mobe, mobe_logits, tmp_path):
    folder, _ = small
    mobe("reconstruct", folder, tmp_path / "plain")
    stock = load_stock(tmp_path / "plain")
    built = build_all(folder)
    for name, matrix in built.items():
        stored = stock.get_parameter(name).detach()
        # Twice the rounding to bfloat16, where the order of a sum moves a tie.
        assert ((stored - matrix).abs() <= 2**-7 * matrix.abs() + 1e-6).all(), name
    ids = sample_ids(stock.config.vocab_size)
    ours = mobe_logits(tmp_path / "plain", ids)
    assert (ours - logits_of(stock, ids)).abs().max() < TOLERANCE


def test_verify_and_inspect(small, mobe, data):
    folder, plan = small
    report = mobe("verify", folder, "--against", data / "models/qwen3_moe", "--json")
    assert report["ok"], report["faults"]
    assert len(report["matrices"]) == len(plan["matrices"])
    told = mobe("inspect", folder, "--json")
    for key in ("num_bases", "rank", "basis_rank", "layers", "factors"):
        assert told["mobe"][key] == plan[key]
    assert told["ratio_experts"] == pytest.approx(plan["ratio_experts"])
    assert told["bytes"] == plan["bytes_out"]


# Sparse alpha alone is within the reference's format.
def test_sparse_alpha_loads_in_the_reference(mobe, data, mobe_logits, tmp_path):
    options = ["--bases", 6, "--alphas", 2, "--budget", 20]
    mobe("compress", data / "models/qwen3_moe", tmp_path / "small", *options)
    for name, alpha in tensors_of(tmp_path / "small").items():
        if ".W_" in name:
            assert ((alpha != 0).sum(dim=1) == 2).all(), name
    native = load_native(tmp_path / "small")
    ids = sample_ids(native.config.vocab_size)
    for mode in ("built", "fused"):
        ours = mobe_logits(tmp_path / "small", ids, "--experts", mode)
        assert (ours - logits_of(native, ids)).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    "options, message, code",
    [
        (["--kinds", "gate,side"], "--kinds gate,side: expected some of", 2),
        (["--kinds", "gate,gate"], "--kinds gate,gate: expected some of", 2),
        (["--kinds", ""], "--kinds : expected some of", 2),
        (["--bases", 4, "--rank", 33], "rank 33: expected 1 to", 1),
        (["--bases", 4, "--basis-rank", 40], "bases of rank 40: expected 1 to", 1),
        (["--bases", 4, "--alphas", 5], "5 bases for an expert: expected 1 to", 1),
    ],
)
def test_refusals(mobe, data, tmp_path, options, message, code):
    original = data / "models/qwen3_moe"
    errors = mobe("compress", original, tmp_path / "out", *options, code=code)
    assert len(errors.splitlines()) == 1
    assert message in errors
