"""bench/equal_bytes.py: each kind of row, on a model of a few tensors."""

import re
import subprocess
import sys

from conftest import REPOSITORY

ROW = re.compile(r"\| ([\d.]+)% \| ([\d.]+) ± [\d.]+ \| (.*?)( \*)? \|")


def test_each_kind_of_row(mobe_program, models, data, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The castle was built of stone, and the river ran below it. " * 20)
    names = ["quantised 4/4", "svd, 4 bits", "8 bases, silu, BF16"]
    names += ["4 bases, A 4, bases 3, down 4", "chosen at 40%", "chosen at 40%, 3 bases"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "bench/equal_bytes.py", data / "models/qwen3_moe", text]
        + [text, "--passes", "4", "--max-tokens", "300", "--only", f"^({'|'.join(names)})$"],
        env={"MOBE": str(mobe_program), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {row[3]: row for row in map(ROW.fullmatch, done.stdout.splitlines()) if row}
    assert set(rows) == set(names), done.stdout
    shares = [float(row[1]) for row in rows.values()]
    assert shares == sorted(shares)
    # 4.5 bits of 16.
    assert abs(float(rows["quantised 4/4"][1]) - 28.1) < 1
    # A star: nothing smaller is as near.
    least = float("inf")
    for row in rows.values():
        assert (row[4] is not None) == (float(row[2]) <= least), done.stdout
        least = min(least, float(row[2]))
