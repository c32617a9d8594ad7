"""The damage matrix: every kind of damage to every file of every kind of database, and whole ones beside them.

    python benchmarks/damage_matrix.py [--healthy 220] [--processes 2]

A case changes what the store holds. With a manifest it is verified `quick`, and `full` where quick calls it valid;
it is detected if the verdict is `corrupted`. Two kinds of change to folders without manifest (and with a manifest that
was made to fit) are no cases, but counted apart: those after which every reader gets what it got before, searches
included, and those that put another possible value in a value's place (a bit of a vector), which nothing but a
checksum can tell. Beside it stands the naive check, the baseline: does it open with chromadb, with the same count?

Ends with code 1 if a case is missed, a whole database is called anything but valid, or a verification crashes.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from damages import MANIFEST, Case, damages, manifest_damages, with_fitting_manifest
from matrix_databases import KINDS, Subject, healthy, make_subject
from reader_view import ReaderView

from embedding_assets.vectorstore.verify import verify


@dataclass
class Tally:
    """What came of the cases of one kind of database."""

    kind: str
    cells: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    apart: Counter[str] = field(default_factory=Counter)
    baseline: int = 0
    crashes: int = 0
    missed: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_kind(kind: str, folder: str) -> Tally:
    """All cases of one kind of database."""
    _be_quiet()
    began = time.monotonic()
    subject = make_subject(kind, Path(folder))
    tally, reader = Tally(kind), ReaderView()
    runner = _Runner(subject, reader, tally)
    for case in _cases(subject):
        if any(subject.files.get(path) != content for path, content in case.change.items()):
            runner.run(case)
    reader.close()
    tally.seconds = time.monotonic() - began
    return tally


def _cases(subject: Subject) -> list[Case]:
    seed = sum(map(ord, subject.kind))
    cases = list(damages(subject.files, subject.sibling, subject.older, seed))
    if subject.manifest is None:
        return cases
    assert subject.other_manifest is not None
    fitting = [with_fitting_manifest(case, subject.files, subject.manifest) for case in cases]
    return [
        *cases,
        *manifest_damages(subject.manifest, subject.other_manifest, seed),
        *(case for case in fitting if case is not None),
    ]


class _Runner:
    def __init__(self, subject: Subject, reader: ReaderView, tally: Tally) -> None:
        self.subject, self.reader, self.tally = subject, reader, tally
        self.copy = subject.home / "reader"
        self.before = self._ask("view")
        self.count = self._ask("count")
        assert self.before is not None, f"{subject.kind} does not open"

    def run(self, case: Case) -> None:
        self._apply(case.change)
        try:
            verdict, reason = self._verify()
            if verdict != "corrupted" and self._is_apart(case):
                return
            harmless = self.subject.manifest is None and MANIFEST not in case.change and self._reads_as_before(case)
            if harmless:
                return
            cell = self.tally.cells.setdefault((case.file, case.kind), [0, 0])
            cell[1] += 1
            cell[0] += verdict == "corrupted"
            self.tally.crashes += verdict == "crash"
            if verdict != "corrupted":
                self.tally.missed.append(f"{self.subject.kind}: {case.file}: {case.kind}: {verdict} {reason}")
            touched = any(path != MANIFEST for path in case.change)
            self.tally.baseline += touched and self._ask("count") != self.count
        finally:
            self._apply({path: self.subject.files.get(path) for path in case.change})

    def _verify(self) -> tuple[str, str]:
        for level in ("quick", "full"):
            try:
                found = verify(
                    self.subject.store, self.subject.what, self.subject.spec,
                    level=level, scratch=self.subject.home / "scratch",
                )  # fmt: skip
            except BaseException as error:
                return "crash", repr(error)
            if found.verdict.kind != "valid" or found.level == "full":
                break
        return found.verdict.kind, found.verdict.reason

    def _is_apart(self, case: Case) -> bool:
        """Whether no check without checksums could tell: nothing that a reader gets, or another possible value."""
        if self.subject.manifest is not None and case.kind != "with a manifest that fits":
            return False
        return self._reads_as_before(case) or self._another_value()

    def _reads_as_before(self, case: Case) -> bool:
        same = bool(self._ask("view") == self.before)
        self.tally.apart["reads as before"] += same
        return same

    def _another_value(self) -> bool:
        view = self._ask("view")
        other = self.subject.manifest is None and view is not None and view[0] == self.before[0]
        self.tally.apart["another possible value"] += bool(other)
        return bool(other)

    def _ask(self, question: str):  # type: ignore[no-untyped-def]
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.subject.folder, self.copy)
        (self.copy / MANIFEST).unlink(missing_ok=True)
        return self.reader.ask(question, self.copy)

    def _apply(self, change: dict[str, bytes | None]) -> None:
        for path, content in change.items():
            target = self.subject.folder / path
            if content is None:
                target.unlink(missing_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


def run_healthy(first: int, last: int, folder: str) -> tuple[int, list[str], list[float]]:
    """Whole databases; what was said against any, and their recalls."""
    _be_quiet()
    alarms, recalls, checked = [], [], 0
    for seed in range(first, last):
        subject = healthy(seed, Path(folder) / f"{seed}")
        for level in ("quick", "full"):
            found = verify(
                subject.store, subject.what, subject.spec, level=level, scratch=subject.home / "scratch"
            )  # fmt: skip
            if found.verdict.kind != "valid":
                alarms.append(f"healthy {seed} {subject.kind}: {level}: {found.verdict}")
        checked += 1
        if found.recall is not None:
            recalls.append(found.recall)
        shutil.rmtree(subject.home)
    return checked, alarms, recalls


def _be_quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--healthy", type=int, default=220, help="how many whole databases")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="damage-matrix-") as home,
        ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool,
    ):
        kinds = [pool.submit(run_kind, kind, f"{home}/{number}") for number, kind in enumerate(arguments.kinds)]
        step = 20
        whole = [
            pool.submit(run_healthy, first, min(first + step, arguments.healthy), f"{home}/healthy")
            for first in range(0, arguments.healthy, step)
        ]
        tallies = [future.result() for future in kinds]
        healths = [future.result() for future in whole]
    return report(tallies, healths)


def report(tallies: list[Tally], healths: list[tuple[int, list[str], list[float]]]) -> int:
    """Print the tables and the last line; the exit code."""
    columns = list(dict.fromkeys(kind for tally in tallies for _, kind in tally.cells))
    for tally in tallies:
        rows = list(dict.fromkeys(file for file, _ in tally.cells))
        print(f"\n{tally.kind}   (apart: {dict(tally.apart) or 'none'}; {tally.seconds:.0f} s)")
        used = [column for column in columns if any((row, column) in tally.cells for row in rows)]
        width = max(len(row) for row in rows)
        print(" " * width + "".join(f"  {column}" for column in used))
        for row in rows:
            cells = [tally.cells.get((row, column)) for column in used]
            said = [f"{cell[0]}/{cell[1]}" if cell else "-" for cell in cells]
            print(row.ljust(width) + "".join(f"  {s:>{len(c)}}" for s, c in zip(said, used, strict=True)))
    missed = [line for tally in tallies for line in tally.missed]
    alarms = [line for _, some, _ in healths for line in some]
    for line in [*missed, *alarms]:
        print(line)
    recalls = [recall for _, _, some in healths for recall in some]
    apart: Counter[str] = sum((tally.apart for tally in tallies), Counter())
    cases = sum(cell[1] for tally in tallies for cell in tally.cells.values())
    detected = sum(cell[0] for tally in tallies for cell in tally.cells.values())
    crashes = sum(tally.crashes for tally in tallies)
    count = sum(number for number, _, _ in healths)
    print(f"\nno cases: {apart['reads as before']} changes after which every reader gets what it got before, and")
    print(
        f"{apart['another possible value']} that put a possible value in a value's place where nothing has checksums."
    )
    mean = sum(recalls) / max(1, len(recalls))
    print(f"recall at 10 of the healthy: least {min(recalls, default=1):.2f}, mean {mean:.3f}")
    print(
        f"damage-matrix: {cases} cases, {detected} detected, {count} healthy, {len(alarms)} false alarms, "
        f"{crashes} crashes, baseline detected {sum(tally.baseline for tally in tallies)}"
    )
    return int(bool(missed or alarms or crashes))


if __name__ == "__main__":
    sys.exit(main())
