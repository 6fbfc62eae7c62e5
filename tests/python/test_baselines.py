"""`mobe compress --method`: the baselines against numpy's SVD."""

import json

import numpy as np
import pytest
from checkpoints import tensors_of

BASES = 8
EXPERTS = 32
LAYER = 3


def stack(folder, kind):
    """The matrices of all experts [experts, rows, cols] in float64."""
    tensors = tensors_of(folder)
    name = f"model.layers.{LAYER}.mlp.experts.{{}}.{kind}_proj.weight"
    return np.stack(
        [tensors[name.format(e)].double().numpy() for e in range(EXPERTS)]
    )


def rest(matrices, rank):
    """Eckart and Young: the least squared error of this rank."""
    values = np.linalg.svd(matrices, compute_uv=False)
    return (values[..., rank:] ** 2).sum()


def least_error(method, w, rank):
    if method == "svd":
        return rest(w, rank)
    if method == "d2moe":
        return rest(w - w.mean(0), rank)
    _, rows, cols = w.shape
    groups = w.reshape(BASES, EXPERTS // BASES * rows, cols)
    return rest(groups, rank)


@pytest.mark.parametrize("method", ["svd", "molae", "d2moe"])
def test_is_the_best_of_its_rank(mobe, models, tmp_path, method):
    original = models / "mini-qwen3-moe"
    out = tmp_path / method
    options = ["--method", method, "--bases", BASES, "--layers", LAYER, "--json"]
    done = mobe("compress", original, out, *options)
    assert done["method"] == method
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["options"]["command"] == f"compress --method {method}"
    assert f"made by `mobe compress --method {method}`" in (out / "README.md").read_text()
    again = mobe("compress", original, out, *options)
    assert again["already"] and again["matrices"] == done["matrices"]
    inspected = mobe("inspect", out)
    assert f", compress --method {method}\n" in inspected and "not compressed" in inspected
    # Not above MoBE's bytes, and less than a rank below.
    rows, cols = 96, 256
    own = EXPERTS * (rows + cols)
    each = {"svd": own, "d2moe": own, "molae": EXPERTS * rows + BASES * cols}
    spare = done["mobe_factor_bytes"] - done["factor_bytes"]
    assert 0 <= spare < 2 * 2 * each[method]  # gate and up, bfloat16

    for matrix in done["matrices"]:
        w = stack(original, matrix["matrix"])
        error = ((stack(out, matrix["matrix"]) - w) ** 2).sum()
        least = least_error(method, w, done["rank"])
        # The rest is rounding to bfloat16, of factors and product.
        assert least * (1 - 1e-6) <= error < 1.01 * least
        scaled = error / w.size / w.var()
        assert abs(matrix["mse_scaled"] / scaled - 1) < 1e-2

    config = json.loads((out / "config.json").read_text())
    assert config == json.loads((original / "config.json").read_text())


@pytest.mark.parametrize("option", [["--budget", 5], ["--alphas", 2], ["--keep-fp8"]])
def test_refuses_options_of_the_fit(mobe, models, tmp_path, option):
    original = models / "mini-qwen3-moe"
    options = ["--method", "svd", *option]
    message = mobe("compress", original, tmp_path / "out", *options, code=1)
    assert f"{option[0]}" in message
    assert "go with --method mobe" in message
    assert not (tmp_path / "out").exists()
