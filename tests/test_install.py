"""What is installed is what is in the tree, and what continuous integration runs is what the README tells to type."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    own = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(SOURCE, tmp_path / "tree" / "src", ignore=own)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "tree")
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "tree")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (tmp_path / "tree" / "src" / "langevin").rglob("*") if path.is_file())
    assert shipped == {path.relative_to(tmp_path / "tree" / "src").as_posix() for path in files}
    assert {"langevin/py.typed", "langevin/recipes/image/digits.yaml"} < shipped


def test_continuous_integration_runs_the_commands_of_the_readme():
    told = re.findall(r"^make \w+", (ROOT / "README.md").read_text(), re.M)
    assert told == ["make demo", "make test"]
    assert re.findall(r"^make \w+", (ROOT / ".ci" / "run").read_text(), re.M) == told
