"""Every command that writes, given once more: it says so, and touches nothing."""

COMPRESS = ["--passes", 2, "--bases", 4]


def test_given_once_more(mobe, data, tmp_path):
    model = data / "models/qwen3_moe"
    factored, part, moments = (tmp_path / name for name in ("factored", "part", "moments"))
    commands = [
        ["compress", model, factored, *COMPRESS],
        ["compress", model, tmp_path / "svd", "--method", "svd", "--bases", 4],
        ["compress", model, part, *COMPRESS, "--shard", "0/1"],
        ["merge", model, tmp_path / "merged", part],
        ["reconstruct", factored, tmp_path / "standard"],
        ["quantize", model, tmp_path / "int8", "--format", "int8"],
        ["calibrate", model, "random", moments, "--max-tokens", 8],
        ["report", factored, "-o", tmp_path / "page.html"],
    ]
    for command in commands:
        assert "finished before" not in mobe(*command), command
    files = [path for path in tmp_path.rglob("*") if path.is_file() and ".mobe" not in path.parts]
    before = {path: path.stat() for path in files}
    for command in commands:
        assert "finished before, by the same command" in mobe(*command), command
        if command[0] not in ("reconstruct", "report"):
            assert mobe(*command, "--json")["already"], command
    for path in files:
        assert path.stat().st_mtime_ns == before[path].st_mtime_ns, path
        assert path.stat().st_ino == before[path].st_ino, path
