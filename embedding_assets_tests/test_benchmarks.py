"""The programs in `benchmarks/` are run by hand, and rarely: that they can still start is seen here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="not in a checkout")
def test_every_program_finds_all_that_it_imports() -> None:
    names = [path.stem for path in sorted(FOLDER.glob("*.py"))]
    assert "damage_matrix" in names
    code = f"import importlib\nfor name in {[*names, 'benchmarks.speed.__main__']}:\n    importlib.import_module(name)"
    paths = {"PYTHONPATH": f"{FOLDER.parent}:{FOLDER}"}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
