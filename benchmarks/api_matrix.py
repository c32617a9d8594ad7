"""A misbehaving batch service under every step of the pipeline: is anything lost, paid twice, wrong, or stuck?

    python benchmarks/api_matrix.py [--only NAME ...] [--seed N] [--workers N] [--list]

Each case is one way to misbehave: late, short or odd files, wrong counts, repeated and foreign ids, limits of every
kind, batches that vanish or never end, lists that mislead, other programs and other deployments on the same key. The
service is real HTTP with the real client in front, and keeps a ledger of every input that it was paid for. The pipeline
does what its sensors and schedules do (submit, poll and land, build deltas, compact), look by look, under a clock that
is moved by days until there is nothing left to do; then everything is held against the ledger:

    lost     an input that was paid for and delivered is neither in the snapshot nor rejected by name
    doubled  an input was paid for again though its first answer was there, or would be; or somebody else's was
    wrong    a record with another text's vector, one that nobody asked for, books that are not balanced
    stuck    something is still to be done or pending, or was given up, though the service behaves by then; or a state
             that needs a person is said nowhere

Variants: `calm`; `killed`: the first steps die at a write to the store, and run again; `repaired`: in the end,
an operator's `repair` must change nothing.

The last line is `api-matrix: N cases, N lost, N doubled, N wrong, N stuck`; the exit code is 1 unless all are zero.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from api_cases import Case, end_cases, late_cases, limit_cases, line_cases, texts
from api_cases_others import all_cases as other_cases
from api_http import serving
from api_oracle import Expected, Verdict, judge
from api_service import Service
from api_world import QUIET, Deployment, moved_clock

DEATHS = 6


def all_cases() -> dict[str, tuple[Case, str]]:
    """Each case with each of its variants, by name."""
    cases = [*late_cases(), *line_cases(), *limit_cases(), *end_cases(), *other_cases()]
    named = [(f"{case.name} ({variant})", (case, variant)) for case in cases for variant in case.variants]
    made = dict(named)
    assert len(made) == len(named), "two cases have one name"
    return made


@dataclass
class Played:
    """What a case came to; `seconds` of real time, `days` of the moved clock."""

    name: str
    verdict: Verdict
    seconds: float
    days: float


def play(name: str, seed: int = 0) -> Played:
    """One case, from an empty store to rest."""
    case, variant = all_cases()[name]
    began = time.monotonic()
    random = Random(zlib.crc32(f"{name} {seed}".encode()))
    with tempfile.TemporaryDirectory(prefix="api-matrix-") as folder, moved_clock() as clock:
        start = clock.at
        service = Service(case.habits, clock)
        with serving(service) as url:
            try:
                deployments = [
                    Deployment.make(who, url, Path(folder), clock, random, case.specs) for who in case.deployments
                ]
                for one in deployments:
                    one.deaths = DEATHS if variant == "killed" else 0
                    for collection in case.specs if case.documents else ():
                        one.write(collection, texts(collection))
                quiet = _days(case, service, deployments)
                if variant == "repaired":
                    for one in deployments:
                        one.repair()
                        quiet &= not one.tick()
                expected = {
                    (one.name, spec.name): case.expected.get(spec.name, Expected())
                    for one in deployments
                    for spec in one.catalog
                }
                verdict = judge(service, deployments, expected, quiet=quiet)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"
                verdict = Verdict(stuck=[" ".join(said.split())[:400]])
    return Played(name, verdict, time.monotonic() - began, (clock.at - start).total_seconds() / 86_400)


def _days(case: Case, service: Service, deployments: Sequence[Deployment]) -> bool:
    """Look after look until nothing is to be done and nothing is awaited; whether that came."""
    if case.prepare:
        case.prepare(service, deployments)
    during = dict(case.during)
    for one in deployments:
        one.schedule()
    days = {one.name: one.today for one in deployments}
    quiet = 0
    for hours in case.ticks:
        deployments[0].clock.move(hours)
        for at in sorted(at for at in during if service.hours >= at):
            during.pop(at)(service, deployments)
        busy = case.down[0] <= service.hours < case.down[1]
        for one in deployments if not busy else ():
            if one.today != days[one.name]:
                days[one.name] = one.today
                one.schedule()
            busy |= one.tick()
        awaited = any(one.awaits(spec.name) for one in deployments for spec in one.catalog)
        quiet = 0 if busy or awaited or during else quiet + 1
        if quiet >= QUIET and service.hours >= 7:
            break
    for one in deployments:
        one.end()
    return not busy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="play the cases whose names begin so")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of death")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="cases at once")
    parser.add_argument("--list", action="store_true", help="name the cases and play none")
    chosen = parser.parse_args()
    names = [n for n in all_cases() if not chosen.only or any(n.startswith(start) for start in chosen.only)]
    if chosen.list:
        print("\n".join(names))
        return 0
    began = time.monotonic()
    print(f"{len(names)} cases, seed {chosen.seed}, {chosen.workers} at once", flush=True)
    failed, total = 0, Verdict()
    with ProcessPoolExecutor(
        chosen.workers, mp_context=multiprocessing.get_context("spawn"), initializer=logging.disable
    ) as pool:
        for number, played in enumerate(pool.map(play, names, [chosen.seed] * len(names)), 1):
            for kind, found in vars(played.verdict).items():
                getattr(total, kind).extend(found)
            if not played.verdict.right:
                failed += 1
                print(f"FAILED {played.name}  [--only {played.name!r} --seed {chosen.seed}]")
                for one in played.verdict.lines():
                    print(f"       {one}")
            if number % 20 == 0 or number == len(names):
                print(f"{number} played, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in vars(total).items())
    print(f"api-matrix: {len(names)} cases, {counts}")
    return 0 if total.right and names else 1


if __name__ == "__main__":
    sys.exit(main())
