"""`mobe calibrate`: what the experts read is what transformers shows them."""

import torch
from checkpoints import load_stock
from safetensors import safe_open

CONTEXT = 96
TOKENS = 400  # four windows and a shorter one


class Moments:
    """What a hook on one MoE block of transformers sums, in float64."""

    def __init__(self):
        self.tokens = self.weights = 0
        self.moment = self.importance = self.down_moment = 0

    def __call__(self, block, inputs, _output):
        x = inputs[0].reshape(-1, inputs[0].shape[-1])
        chances = torch.softmax(x @ block.gate.weight.T, -1)
        weights, picks = chances.topk(block.top_k)
        weights = weights / weights.sum(-1, keepdim=True)
        squares = torch.zeros_like(chances).scatter(1, picks, weights).square()
        self.tokens += len(x)
        self.weights += squares.sum().double()
        self.moment = self.moment + x.double().T @ x.double()
        self.importance = self.importance + squares.double().sum(0)
        for e, expert in enumerate(block.experts):
            gate, up = expert.gate_proj(x), expert.up_proj(x)
            inner = (torch.nn.functional.silu(gate) * up).double()
            self.down_moment = self.down_moment + inner.T @ (squares[:, e, None] * inner)


@torch.no_grad()
def test_moments_are_those_of_transformers(mobe, models, tmp_path):
    folder = models / "mini-qwen3-moe"
    out = tmp_path / "moments.safetensors"
    options = ["--max-tokens", TOKENS, "--context", CONTEXT, "--json"]
    done = mobe("calibrate", folder, folder / "sample.txt", out, *options)
    assert done["tokens"] == TOKENS

    from transformers import PreTrainedTokenizerFast

    file = str(folder / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file)
    text = (folder / "sample.txt").read_text()
    ids = torch.tensor(tokenizer(text)["input_ids"][:TOKENS])
    model = load_stock(folder)
    blocks = [layer.mlp for layer in model.model.layers]
    sums = [Moments() for _ in blocks]
    for block, moments in zip(blocks, sums):
        block.register_forward_hook(moments)
    for window in ids.split(CONTEXT):
        model(window[None], use_cache=False)

    with safe_open(out, "pt") as file:
        assert file.metadata()["tokens"] == str(TOKENS)
        assert file.metadata()["hash"] == done["hash"]
        for i, expected in enumerate(sums):
            wanted = {
                "moment": expected.moment / expected.tokens,
                "importance": expected.importance / expected.tokens,
                "down_moment": expected.down_moment / expected.weights,
            }
            for name, value in wanted.items():
                ours = file.get_tensor(f"model.layers.{i}.{name}").double()
                assert ours.shape == value.shape
                error = (ours - value).norm() / value.norm()
                assert error < 1e-4, (i, name, error)
            assert torch.equal(file.get_tensor(f"model.layers.{i}.moment").T,
                               file.get_tensor(f"model.layers.{i}.moment"))


def test_a_calibrated_fit_is_closer_to_the_model(mobe, models, tmp_path):
    # Also on another text than it was calibrated on: here none but random ids.
    folder = models / "mini-qwen3-moe"
    options = ["--layers", "2-3", "--bases", 8, "--budget", 20, "--quiet"]
    calibrate = ["--calibrate", "random", "--calibrate-tokens", 16384]
    mobe("compress", folder, tmp_path / "plain", *options)
    mobe("compress", folder, tmp_path / "calibrated", *options, *calibrate)

    def kld(other):
        text = folder / "sample.txt"
        return mobe("compare", folder, tmp_path / other, text, "--json")["kld_mean"]

    assert kld("calibrated") < 0.8 * kld("plain")


def test_a_calibration_that_is_there_already(mobe, models, tmp_path):
    out = tmp_path / "moments.safetensors"
    command = ["calibrate", models / "mini-qwen3-moe", "random", out, "--max-tokens"]
    first = mobe(*command, 20, "--json")
    before = out.stat().st_ino
    again = mobe(*command, 20, "--json")
    assert again == {**first, "already": True} and not first["already"]
    assert out.stat().st_ino == before
    assert "finished before, by the same command" in mobe(*command, 20)
    assert not mobe(*command, 21, "--json")["already"]


def test_compress_reads_it(mobe, models, data, tmp_path):
    """As it calibrates by itself."""
    folder = models / "mini-qwen3-moe"
    moments = tmp_path / "moments.safetensors"
    mobe("calibrate", folder, "random", moments, "--max-tokens", 300)
    recipe = ["--layers", 2, "--passes", 3, "--bases", 8]
    out, alone, plain = tmp_path / "out", tmp_path / "alone", tmp_path / "plain"
    mobe("compress", folder, out, *recipe, "--moments", moments)
    mobe("compress", folder, alone, *recipe, "--calibrate", "random", "--calibrate-tokens", 300)
    mobe("compress", folder, plain, *recipe)
    weights = [(made / "model.safetensors").read_bytes() for made in (out, alone, plain)]
    assert weights[0] == weights[1] != weights[2]
    command = ["compress", folder, out, *recipe, "--moments", moments]
    assert "finished before" in mobe(*command)
    # Another calibration is another job.
    mobe("calibrate", folder, "random", moments, "--max-tokens", 301)
    assert "another option (calibrate: " in mobe(*command, code=1)
    said = mobe("compress", data / "models/qwen3_moe", tmp_path / "no", "--moments", moments, code=1)
    assert "is of another model" in said and not (tmp_path / "no").exists()
    command[2] = tmp_path / "no"
    assert "excludes" in mobe(*command, "--calibrate", "random", code=2)
