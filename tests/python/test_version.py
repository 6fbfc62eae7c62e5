import re
from pathlib import Path

CMAKE = Path(__file__).resolve().parents[2] / "CMakeLists.txt"


def test_version_is_the_projects(mobe):
    version = re.search(r"project\(mobe VERSION (\S+)", CMAKE.read_text()).group(1)
    assert mobe("--version").splitlines()[0] == f"mobe {version}"
