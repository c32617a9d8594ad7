"""The damage matrix: every kind of damage to every file of every kind of database, and to every other kind of object.

    python benchmarks/damage_matrix.py [--healthy 220] [--processes 2] [--only NAME ...] [--sample N] [--list]

First the databases, and whole ones beside them. A case changes what the store holds. With a manifest it is verified
`quick`, and `full` where quick calls it valid; it is detected if the verdict is `corrupted`. Two kinds of change to
folders without manifest (and with a manifest that was made to fit) are no cases, but counted apart: those after which
every reader gets what it got before, searches included, and those that put another possible value in a value's place
(a bit of a vector), which nothing but a checksum can tell. Beside it stands the naive check, the baseline: does it
open with chromadb, with the same count?

Then the objects: requests, batches, landings, marks, the log, alerts, a reader's cache and so on, and strangers' files
beside them. A case is a copy of a small store of three collections with one damage. Readers read it, `check` looks at
it, then the sensors' and schedules' steps run for some days (in this process, against a batch service that still has
all batches), and where they leave anything, the audit repairs. In the end every record that was ever accepted must be
in the snapshot as it was paid for, or rejected by name as before; nothing may have been paid for twice, in no
collection; `check` finds nothing, and a further round has nothing to do. What is not found must be without any effect.

Ends with code 1 if a case is missed, a whole database is called anything but valid, a verification crashes, or a
damaged object costs a record, money, or needs a person.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from damages import MANIFEST, Case, damages, manifest_damages, with_fitting_manifest
from matrix_databases import KINDS, Subject, healthy, make_subject
from object_matrix import Played, all_cases, play, start
from object_report import healing, print_faults, print_objects
from reader_view import ReaderView

from embedding_assets.vectorstore.verify import verify

SHORT = {  # the kinds of damage as the table's columns call them
    "deleted": "gone",
    "emptied": "empty",
    "truncated": "cut",
    "bit flipped": "bits",
    "block zeroed": "zeros",
    "block of garbage": "junk",
    "swapped": "swap",
    "stale": "stale",
    "graph cut": "graph",
    "rows lost": "rows",
    "manifest missing": "gone",
    "manifest edited": "edit",
    "edited, checksum re-made": "forge",
    "with a manifest that fits": "fit",
}

# How many were verified, what was said against any, and of each the recall and whether it is held to a floor.
Health = tuple[int, list[str], list[tuple[float, bool]]]

LEGEND = """
gone = deleted, cut = truncated, bits = one bit flipped, junk = a block of random bytes, swap = of another database,
stale = of an earlier time, graph = an index without links, rows = lost from SQLite, edit = a field of the manifest,
forge = the same with its checksum made anew, fit = any of these with a manifest whose files fit"""


@dataclass
class Tally:
    """What came of the cases of one kind of database."""

    kind: str
    cells: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    apart: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
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
        # A whole database of another time, or where SQLite's file is all that there is another one, is no damage.
        alone = not any(path.endswith("index_metadata.pickle") for path in subject.files)
        return [
            case
            for case in cases
            if {**subject.files, **case.change} != subject.older and not (alone and case.kind in ("swapped", "stale"))
        ]
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
            cell = self.tally.cells.setdefault((case.file, SHORT[case.kind]), [0, 0])
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
            if found.verdict.kind == "corrupted" or found.level == "full":
                break
        return found.verdict.kind, found.verdict.reason

    def _is_apart(self, case: Case) -> bool:
        """Whether no check without checksums could tell: nothing that a reader gets, or another possible value."""
        if self.subject.manifest is not None and case.kind != "with a manifest that fits":
            return False
        return self._reads_as_before(case) or self._another_value(case)

    def _reads_as_before(self, case: Case) -> bool:
        same = bool(self._ask("view") == self.before)
        self.tally.apart["reads as before"] += same
        return same

    def _another_value(self, case: Case) -> bool:
        """Whether all ids and documents are as before, and the rest is what a whole database could hold as well."""
        view = self._ask("view")
        other = self.subject.manifest is None and view is not None and view[0] == self.before[0]
        if other:
            self.tally.apart["another possible value"] += 1
            self.tally.values[f"{case.file} {SHORT[case.kind]}"] += 1
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


def run_healthy(first: int, last: int, folder: str) -> Health:
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
            assert found.examination is not None
            recalls.append((found.recall, found.examination.held_to_floor))
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
    parser.add_argument("--only", nargs="+", default=[], help="the databases and object cases whose names begin so")
    parser.add_argument("--sample", type=int, help="so many of the object cases, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    parser.add_argument("--list", action="store_true", help="name the object cases and play none")
    arguments = parser.parse_args()
    if arguments.only:
        arguments.healthy = 0
        arguments.kinds = [kind for kind in arguments.kinds if _is_chosen(kind, arguments.only)]
    played = _play_objects(arguments)
    if arguments.list:
        return 0
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
        tallies = []
        for future in as_completed(kinds):
            tallies.append(future.result())
            print_table(tallies[-1])
        healths = [future.result() for future in whole]
    return report(tallies, healths, played)


def _is_chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(name.startswith(start) for start in only)


def _play_objects(arguments: argparse.Namespace) -> list[Played]:
    """The object cases, played and printed."""
    began = time.monotonic()
    # All is small: what can be in memory need not wait for a disk.
    memory = Path("/dev/shm")
    within = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30 else None
    with tempfile.TemporaryDirectory(prefix="damage-matrix-", dir=within) as home, _temporary_files_in(home):
        cases = [case for case in all_cases(Path(home)) if _is_chosen(case.name, arguments.only)]
        if arguments.sample is not None and arguments.sample < len(cases):
            chosen = set(Random(arguments.seed).sample(range(len(cases)), arguments.sample))
            cases = [case for number, case in enumerate(cases) if number in chosen]
        if arguments.list:
            print("\n".join(ascii(case.name)[1:-1] for case in cases))
            return []
        played = []
        with ProcessPoolExecutor(
            arguments.processes, multiprocessing.get_context("spawn"), initializer=start, initargs=(home,)
        ) as pool:
            for number, one in enumerate(pool.map(play, cases), 1):
                played.append(one)
                if number % 200 == 0:
                    print(f"{number} of {len(cases)} objects, {time.monotonic() - began:.0f} s", flush=True)
    print_objects(played, time.monotonic() - began)
    return played


@contextlib.contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    before, tempfile.tempdir = (os.environ.get("TMPDIR"), tempfile.tempdir), None
    os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        tempfile.tempdir = before[1]
        os.environ.pop("TMPDIR")
        if before[0] is not None:
            os.environ["TMPDIR"] = before[0]


def print_table(tally: Tally) -> None:
    """One kind's table: files by damages, detected/cases."""
    rows = list(dict.fromkeys(file for file, _ in tally.cells))
    used = {kind for _, kind in tally.cells}
    columns = [kind for kind in dict.fromkeys(SHORT.values()) if kind in used]
    apart = ", ".join(f"{count} {what}" for what, count in tally.apart.items()) or "none"
    print(f"\n{tally.kind} ({tally.seconds:.0f} s; no cases: {apart})")
    width = max(len(row) for row in rows)
    print(" " * width + "".join(f"  {column:>5}" for column in columns))
    for row in rows:
        cells = [tally.cells.get((row, column)) for column in columns]
        said = [f"{cell[0]}/{cell[1]}" if cell else "-" for cell in cells]
        print(row.ljust(width) + "".join(f"  {cell:>5}" for cell in said), flush=True)


def report(tallies: list[Tally], healths: list[Health], played: list[Played]) -> int:
    """Print what was missed and the last line; the exit code."""
    missed = [line for tally in tallies for line in tally.missed]
    alarms = [line for _, some, _ in healths for line in some]
    for line in [*missed, *alarms]:
        print(line)
    print_faults(played)
    recalls = [recall for _, _, some in healths for recall, _ in some]
    strict = [recall for _, _, some in healths for recall, held in some if held]
    apart: Counter[str] = sum((tally.apart for tally in tallies), Counter())
    cases = sum(cell[1] for tally in tallies for cell in tally.cells.values())
    detected = sum(cell[0] for tally in tallies for cell in tally.cells.values())
    crashes = sum(tally.crashes for tally in tallies)
    count = sum(number for number, _, _ in healths)
    print(LEGEND)
    print(f"\nNo cases: {apart['reads as before']} changes after which every reader gets what it got before, and")
    print(f"{apart['another possible value']} of folders without checksums that leave another possible database:")
    values: Counter[str] = sum((tally.values for tally in tallies), Counter())
    print("  " + ", ".join(f"{what} {count}" for what, count in values.most_common()))
    mean = sum(recalls) / max(1, len(recalls))
    print(
        f"recall at 10 of the healthy: least {min(recalls, default=1):.2f}, mean {mean:.3f}; "
        f"of those that are held to a floor: least {min(strict, default=1):.2f}"
    )
    print(healing(played))
    cases += sum(bool(one.found) or one.missed for one in played)
    detected += sum(bool(one.found) for one in played)
    crashes += sum(bool(one.crash) for one in played)
    print(
        f"damage-matrix: {cases} cases, {detected} detected, {count} healthy, {len(alarms)} false alarms, "
        f"{crashes} crashes, baseline detected {sum(tally.baseline for tally in tallies)}"
    )
    faults = [one for one in played if not one.apart and (one.missed or not one.right)]
    return int(bool(missed or alarms or crashes or faults))


if __name__ == "__main__":
    sys.exit(main())
