"""Models by their names on the hub, from Hugging Face's cache, whose files are links."""


def test_models_by_name(mobe, models, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub/models--org--mini/snapshots/0123"
    snapshot.mkdir(parents=True)
    for file in (models / "mini-qwen3-moe").iterdir():
        (snapshot / file.name).symlink_to(file)
    refs = tmp_path / "hub/models--org--mini/refs"
    refs.mkdir()
    (refs / "main").write_text("0123")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    original = mobe("inspect", models / "mini-qwen3-moe", "--json")
    assert mobe("inspect", "org/mini", "--json") == original
    mobe("generate", "org/mini", "--prompt", "a", "--max-tokens", 2)
    mobe("compress", "org/mini", tmp_path / "out", "--budget", 1)
    mobe("verify", tmp_path / "out", "--against", "org/mini")
    message = mobe("inspect", "org/none", code=1)
    assert f"no such model in Hugging Face's cache, {tmp_path}/hub;" in message
    assert "'hf download org/none' gets it" in message
