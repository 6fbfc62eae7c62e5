"""recipe.json, the model card and the page of `mobe report`, as other programs read
them: sha256sum's digest, YAML, and a strict HTML parser."""

import hashlib
import json

import html5lib
import pytest
import yaml

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
    assert recipe["files"].keys() == names - {"recipe.json", "README.md"}
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
    (bad / "recipe.json").unlink()
    assert mobe("verify", bad, "--against", original, "--json")["ok"]


def test_reconstructed_model_has_its_own_card(compressed, mobe, models, tmp_path):
    plain = tmp_path / "plain"
    mobe("reconstruct", compressed, plain)
    assert not (plain / "recipe.json").exists()
    front = (plain / "README.md").read_text().split("---\n", 2)[1]
    assert yaml.safe_load(front)["library_name"] == "transformers"
    original = models / "mini-qwen3-moe"
    report = mobe("verify", plain, "--against", original, "--json")
    assert report["ok"] and report["files_checked"] is None


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
