"""transformers 5 and mobe read what the other writes. Run by scripts/interop.sh."""

import pytest
import transformers
from checkpoints import load_stock, logits_of
from safetensors.torch import load_file

TOLERANCE = 1e-3
MODELS = (
    "qwen3_moe", "qwen2_moe", "mixtral", "olmoe", "glm4_moe", "minimax_m2", "hy_v3", "qwen3_next",
    "qwen3_5_moe", "deepseek_v2", "deepseek_v3",
)  # fmt: skip

if int(transformers.__version__.split(".")[0]) < 5:
    pytest.skip("of transformers 5", allow_module_level=True)


@pytest.mark.parametrize("form", (True, False), ids=("publishers_names", "own_names"))
@pytest.mark.parametrize("name", MODELS)
def test_mobe_reads_what_transformers_saves(name, form, data, mobe_logits, tmp_path):
    stock = load_stock(data / "models" / name)
    stock.save_pretrained(tmp_path / "saved", save_original_format=form)
    ids = load_file(data / "models" / name / "golden.safetensors")["input_ids"]
    ours = mobe_logits(tmp_path / "saved", ids)
    assert (ours - logits_of(stock, ids)).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_what_reconstruct_writes(name, data, mobe, mobe_logits, tmp_path):
    ids = load_file(data / "models" / name / "golden.safetensors")["input_ids"]
    mobe("compress", data / "models" / name, tmp_path / "mobe", "--bases", 2, "--budget", 2)
    mobe("reconstruct", tmp_path / "mobe", tmp_path / "plain")
    theirs = logits_of(load_stock(tmp_path / "plain"), ids)
    assert (mobe_logits(tmp_path / "plain", ids) - theirs).abs().max() < TOLERANCE
