"""A few cases of `make api-matrix`, and that its oracle sees what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
PATHS = {"PYTHONPATH": f"{FOLDER.parent}:{FOLDER}"}
# One of each kind: an odd file, a death in mid-step, an answer that is lost, another program's batch, partial output.
CASES = [
    "output file bom (calm)",
    "counts text (killed)",
    "answer lost at batches (calm)",
    "foreign, named (calm)",
    "expired with 50% done (repaired)",
]
# What is done to the service's ledger or to what was asked, and which kinds of fault the oracle must see then.
DAMAGES = {
    "service.paid.append(service.paid[0])": ["doubled"],
    "deployments[0].documents['lines']['id-9'] = 'never asked'": ["lost"],
    "deployments[0].documents['lines']['id-0'] = 'another text'": ["wrong"],
    "del deployments[0].documents['lines']['id-0']": ["doubled", "wrong"],
    "service.cancels.append(('one', 'other'))": ["wrong"],
    "how['quiet'] = False": ["stuck"],
}
PROGRAM = """
import json, sys, api_matrix
judge = api_matrix.judge
for damage in json.loads(sys.argv[1]):
    def damaged(service, deployments, expected, **how):
        exec(damage)
        return judge(service, deployments, expected, **how)
    api_matrix.judge = damaged
    found = api_matrix.play("output file bom (calm)").verdict
    print(json.dumps([kind for kind, some in vars(found).items() if some]))
"""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="not in a checkout")


def run(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, *arguments], env=PATHS, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip().splitlines() or [done.stderr]


def test_nothing_is_lost_doubled_wrong_or_stuck_over_a_service_that_misbehaves() -> None:
    code, lines = run(f"{FOLDER}/api_matrix.py", "--workers", "1", "--only", *CASES)
    assert code == 0, lines
    assert lines[-1] == f"api-matrix: {len(CASES)} cases, 0 lost, 0 doubled, 0 wrong, 0 stuck"


def test_the_oracle_sees_what_is_wrong() -> None:
    code, lines = run("-c", PROGRAM, json.dumps(list(DAMAGES)))
    assert code == 0, lines
    assert dict(zip(DAMAGES, map(json.loads, lines), strict=True)) == DAMAGES
