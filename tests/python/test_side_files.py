"""The files beside the weights: what is copied, named, refused; and folders that
hold no model. Rules and messages in detail are with the unit tests (side_files_test,
hub_test, verify_side_files_test); here is what the program makes of them."""

import json
import os
import shutil
import struct

import pytest

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
TEMPLATE = "additional_chat_templates/tool_use.jinja"
LATIN = b"caf\xe9.txt"  # no UTF-8
FIT = ("--bases", 2, "--passes", 2, "--quiet")


@pytest.fixture
def model(data, tmp_path):
    """A small sound model with side files of all kinds."""
    folder = tmp_path / "model"
    shutil.copytree(data / "hostile/checkpoints/ok_control_sharded", folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / TEMPLATE).write_text("tools")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("card")
    for name in ("optimizer.pt", "tf_model.h5", "nohup.out", ".env"):
        (folder / name).write_text("x")
    (folder / "figures").mkdir()
    with open(os.fsencode(folder) + b"/" + LATIN, "w") as file:
        file.write("x")
    return folder


def names(folder):
    return {
        os.path.relpath(os.path.join(path, file), os.fsencode(folder))
        for path, _, files in os.walk(os.fsencode(folder))
        for file in files
    }


COPIED = {LATIN, TEMPLATE.encode(), b"tokenizer.json"}


def test_every_command_copies_them(mobe, model, tmp_path):
    out = tmp_path / "out"
    dry = mobe("compress", model, out, *FIT, "--dry-run", "--json")
    assert dry["copied"] == ["README.md", TEMPLATE, "caf%E9.txt", "tokenizer.json"]
    assert dry["left_out"] == {
        ".env": "hidden",
        "figures": "a folder",
        "nohup.out": "training state",
        "optimizer.pt": "training state",
        "tf_model.h5": "weights",
    }
    text = mobe("compress", model, out, *FIT, "--dry-run")
    assert f"README.md, {TEMPLATE}, caf%E9.txt, tokenizer.json\n" in text
    assert "left out: .env (hidden), figures (a folder), " in text
    assert not out.exists()

    mobe("compress", model, out, *FIT)
    written = {b"config.json", b"README.md", b"recipe.json", b"README.original.md"}
    written |= {b"model.safetensors", b"modeling_mobe.py"}
    assert names(out) == COPIED | written
    mobe("verify", out, "--against", model)
    mobe("reconstruct", out, tmp_path / "plain", "--quiet")
    mobe("verify", tmp_path / "plain", "--against", model)
    svd = tmp_path / "svd"
    mobe("compress", model, svd, "--method", "svd", "--bases", 2, "--quiet")
    mobe("verify", svd, "--against", model)
    for folder in (tmp_path / "plain", svd):
        assert COPIED < names(folder)
        assert b"modeling_mobe.py" not in names(folder)

    for i in range(2):
        mobe("compress", model, tmp_path / f"part{i}", *FIT, "--shard", f"{i}/2")
    parts = [tmp_path / f"part{i}" for i in range(2)]
    mobe("merge", model, tmp_path / "merged", *parts, "--quiet")
    assert names(tmp_path / "merged") == names(out)

    (out / TEMPLATE).unlink()
    mobe("verify", out, "--against", model, code=1)


def test_nothing_begins_without_what_is_needed(mobe, model, tmp_path):
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").symlink_to("../blobs/1")
    for options in ((), ("--dry-run",), ("--method", "svd")):
        fit = ("--bases", 2) if "svd" in options else FIT
        error = mobe("compress", model, tmp_path / "out", *fit, *options, code=1)
        assert error.count("\n") == 1
        assert "/tokenizer.json: a link to ../blobs/1, which is not there" in error
    assert not (tmp_path / "out").exists()


def test_others_are_warned_of(mobe, model, tmp_path):
    (model / "LICENSE").write_text(POINTER)
    (model / "model.safetensors.aria2").write_text("x")
    for options in ((), ("--dry-run",)):
        report = mobe("compress", model, tmp_path / "out", *FIT, "--json", *options)
        first, second = report["warnings"]
        assert "/LICENSE: a Git LFS pointer" in first
        assert "/model.safetensors.aria2: an unfinished download" in second


# A download that makes room first and then breaks off.
def test_zeros_are_counted(mobe, model, tmp_path):
    shard = model / "model-00002-of-00002.safetensors"
    header = 8 + struct.unpack("<Q", shard.read_bytes()[:8])[0]
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:header] + bytes(size - header))
    count = len(json.loads(shard.read_bytes()[8:header])) - 1
    report = mobe("compress", model, tmp_path / "out", *FIT, "--json")
    verified = mobe("verify", tmp_path / "out", "--against", model, "--json")
    for warnings in (report["warnings"], verified["warnings"]):
        assert len(warnings) == 1
        assert f": {count} of 24 tensors are zero" in warnings[0]
    assert mobe("inspect", model, "--json")["warnings"] == []  # reads no tensor


def test_folders_that_hold_no_model(mobe, model, tmp_path):
    def expect(*texts):
        error = mobe("inspect", tmp_path / "cache/models--a--b", code=1)
        assert error.count("\n") == 1
        for text in texts:
            assert text in error

    snapshot = tmp_path / "cache/models--a--b/snapshots/0123"
    shutil.copytree(model, snapshot)
    expect("its folder in Hugging Face's cache", f"name {snapshot}")
    shard = "model-00002-of-00002.safetensors"

    def inspect():
        return mobe("inspect", snapshot, code=1)

    whole = (snapshot / shard).read_bytes()
    (snapshot / shard).write_bytes(whole[: len(whole) // 2])
    assert "cut off: it has " in inspect()
    (snapshot / shard).unlink()
    assert f"'hf download a/b {shard}' gets it" in inspect()
    for name in (shard, "model.safetensors.index.json"):
        (snapshot / name).write_text(POINTER)
        assert f"/{name}: a Git LFS pointer" in inspect()


def test_a_recipe_of_another_tool(mobe, data, tmp_path):
    """In a plain model it is a file as others; in one of ours it is damage."""
    for name, code in (("qwen3_moe", 0), ("qwen3_mobe", 1)):
        folder = tmp_path / name
        shutil.copytree(data / "models" / name, folder)
        (folder / "recipe.json").write_text('{"servings": 4}')
        said = mobe("inspect", folder, code=code)
        assert ("not compressed" if code == 0 else "damaged recipe") in said
