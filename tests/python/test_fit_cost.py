"""scripts/fit_cost.py counts as `mobe compress --dry-run` does."""

import sys

import pytest
from conftest import REPOSITORY

sys.path.append(str(REPOSITORY / "scripts"))
from fit_cost import fit_operations  # noqa: E402


@pytest.mark.parametrize("passes", [1, 500])
@pytest.mark.parametrize("bases", [3, 8])
def test_operations(mobe, models, tmp_path, bases, passes):
    plan = mobe(
        *("compress", models / "mini-qwen3-moe", tmp_path / "out", "--dry-run"),
        *("--bases", bases, "--passes", passes, "--json"),
    )
    config = mobe("inspect", models / "mini-qwen3-moe", "--json")
    shape = config["experts"], config["expert_size"], config["hidden_size"], bases
    fits = 2 * config["moe_layers"]
    assert plan["operations"] == pytest.approx(fits * fit_operations(*shape, passes))
