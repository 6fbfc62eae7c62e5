"""recipe.json, the model card and the page of `mobe report`, as other programs read
them: sha256sum's digest, YAML, and a strict HTML parser."""

import hashlib
import json
import re
import subprocess
from pathlib import Path

import html5lib
import pytest
import yaml
from checkpoints import tensors_of

OPTIONS = ["--layers", "2-3", "--bases", 8, "--budget", 3]


@pytest.fixture(scope="module")
def compressed(mobe, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "small"
    mobe("compress", models / "mini-qwen3-moe", out, *OPTIONS)
    return out


@pytest.fixture(scope="module")
def recipe(compressed):
    return json.loads((compressed / "recipe.json").read_text())


def test_checksums_are_sha256_of_all_files(compressed, recipe):
    names = {path.name for path in compressed.iterdir()}
    assert recipe["files"].keys() == names - {"recipe.json"}
    for name, file in recipe["files"].items():
        data = (compressed / name).read_bytes()
        assert file == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_source_is_named_without_its_place(compressed, recipe, models):
    assert recipe["source"]["name"] == "mini-qwen3-moe"
    for name, file in recipe["source"]["files"].items():
        data = (models / "mini-qwen3-moe" / name).read_bytes()
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    for name in ("recipe.json", "README.md"):
        assert str(models) not in (compressed / name).read_text()


def test_same_bytes_again(compressed, mobe, models, tmp_path):
    again = tmp_path / "again"
    options = [*OPTIONS, "--threads", 1]
    mobe("compress", models / "mini-qwen3-moe", again, *options)
    for path in compressed.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_model_card(compressed, recipe):
    text = (compressed / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["base_model"] == "mini-qwen3-moe"
    assert metadata["library_name"] == "mobe"
    assert metadata["tags"] == ["mobe", "moe", "mixture-of-experts", "compression"]
    for matrix in recipe["matrices"]:
        assert f"{matrix['relative']:.4f} ({matrix['worst_expert']:.4f})" in body


def test_a_low_bit_is_a_fault(compressed, mobe, models, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in compressed.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    name = "model.layers.3.mlp.experts.7.up_proj.weight"
    data = bytearray((bad / "model.safetensors").read_bytes())
    size = int.from_bytes(data[:8], "little")
    begin, _ = json.loads(data[8 : 8 + size])[name]["data_offsets"]
    data[8 + size + begin] ^= 1
    (bad / "model.safetensors").write_bytes(data)
    original = models / "mini-qwen3-moe"
    assert mobe("verify", compressed, "--against", original, "--json")["ok"]
    mobe("verify", bad, "--against", original, code=1)
    mobe("verify", bad, code=1)
    assert mobe("verify", compressed, "--json")["ok"]
    (bad / "recipe.json").unlink()
    assert mobe("verify", bad, "--against", original, "--json")["ok"]


def test_reconstructed_model_has_its_own_card(compressed, mobe, models, tmp_path):
    plain = tmp_path / "plain"
    mobe("reconstruct", compressed, plain)
    recipe = json.loads((plain / "recipe.json").read_text())
    assert recipe["options"]["command"] == "reconstruct"
    front = (plain / "README.md").read_text().split("---\n", 2)[1]
    assert yaml.safe_load(front)["library_name"] == "transformers"
    original = models / "mini-qwen3-moe"
    report = mobe("verify", plain, "--against", original, "--json")
    assert report["ok"] and report["files_checked"] == len(recipe["files"])


@pytest.mark.parametrize("with_original", [False, True])
def test_page(compressed, recipe, mobe, models, tmp_path, with_original):
    page = tmp_path / "page.html"
    original = ["--original", models / "mini-qwen3-moe"] if with_original else []
    mobe("report", compressed, *original, "-o", page)
    text = page.read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    for forbidden in ("http:", "https:", "<script", "src=", "@import", "url("):
        assert forbidden not in text
    for matrix in recipe["matrices"]:
        assert f"<td>{matrix['mse_scaled']:.5f}</td>" in text
        assert f"<td>{100 * matrix['relative']:.2f} %</td>" in text
    for file in recipe["files"].values():
        assert file["sha256"] in text
    assert ("original experts" in text) == with_original


def test_every_file_of_the_output_is_protected(
    compressed, mobe, mobe_program, tmp_path
):
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in compressed.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    for path in sorted(bad.iterdir()):
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[len(damaged) // 3] ^= 32
        path.write_bytes(damaged)
        done = subprocess.run(
            [mobe_program, "verify", bad], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert f"fault: {path}" in done.stdout
        path.write_bytes(sound)
    assert mobe("verify", bad, "--json")["ok"]


def test_writes_over_nothing_of_others(compressed, mobe, models, tmp_path):
    """For every command that writes a file."""
    ids = tmp_path / "ids.txt"
    ids.write_text("1 2 3\n")
    model = tmp_path / "model"
    model.mkdir()
    for path in (models / "mini-qwen3-moe").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    commands = {
        "report": lambda file: ["report", compressed, "-o", file],
        "logits": lambda file: ["logits", model, "--ids", ids, "--out", file],
        "calibrate": lambda file: ["calibrate", model, "random", file]
        + ["--max-tokens", 8],
        "trace": lambda file: ["compress", model, tmp_path / "out", "--trace", file]
        + "--budget 1 --layers 1 --kinds gate --bases 4".split(),
    }
    before = {path: path.read_bytes() for path in model.iterdir()}
    for name, command in commands.items():
        mine = tmp_path / f"{name}.mine"
        mine.write_text("mine")
        message = mobe(*command(mine), code=1)
        assert "exists, and is not a" in message and "--force" in message
        assert mine.read_text() == "mine"
        read = compressed if name == "report" else model
        for target in (ids, read / "config.json", "/dev/full", tmp_path):
            if target == ids and name != "logits":
                continue
            mobe(*command(target), "--force", code=1)
        assert {path: path.read_bytes() for path in model.iterdir()} == before
        mobe(*command(mine), "--force")
        assert mine.read_bytes() != b"mine"
        mobe(*command(mine))  # its own
        assert Path("/dev/full").is_char_device()


def test_the_worst_expert_is_named_everywhere(compressed, mobe, models, tmp_path):
    """As measured here, from what `reconstruct` writes."""
    original = models / "mini-qwen3-moe"
    mobe("reconstruct", compressed, tmp_path / "plain")
    before, after = tensors_of(original), tensors_of(tmp_path / "plain")
    errors = {}
    for name in before:
        found = re.fullmatch(
            r"model\.layers\.([23])\.mlp\.experts\.(\d+)\.(gate|up)_proj\.weight", name
        )
        if found:
            w, built = before[name].double(), after[name].double()
            place = (int(found[1]), found[3], int(found[2]))
            errors[place] = float((w - built).norm() / w.norm())
    (layer, matrix, expert), error = max(errors.items(), key=lambda item: item[1])
    assert error > 1.02 * sum(errors.values()) / len(errors), "no expert stands out"

    line = f"layer {layer} {matrix}, expert {expert}"
    for command in (["verify", compressed, "--against", original], ["inspect", compressed]):
        report = mobe(*command, "--json")
        worst = (report.get("recipe") or report)["worst_expert"]
        assert worst.pop("relative") == pytest.approx(error, rel=2e-3), command
        assert worst == {"layer": layer, "matrix": matrix, "expert": expert}
        assert line in mobe(*command), command
    page = tmp_path / "page.html"
    mobe("report", compressed, "--original", original, "-o", page)
    assert line in page.read_text()
