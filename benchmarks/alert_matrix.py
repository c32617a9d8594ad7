"""Failures injected by kind and under trouble of every sort, against the alerts received: is any lost, or doubled?

    python benchmarks/alert_matrix.py [--daemon-rounds N] [--seed N]

Each kind of failure happens on a real Dagster instance and is healed; the sensor `alerts` tells a real web server and a
real mail server on this machine. That is done once undisturbed; once with each channel down, and up again later; and
again for every write to the store that the sensor makes, dying before and after it. Then a real daemon with its code
server does it, killed with SIGKILL, children and all, in turn at the moment that the channel accepts a message and at
a random moment, and started again. A message may come twice if, and only if, its sender died after the channel
accepted it and before that was written down; such ones are counted apart.

The last line is `alert-matrix: N messages, N lost, N doubled`; the exit code is 1 if one is lost, or doubled otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from alert_daemon import DaemonRounds
from mortal_store import Killed, MortalStore

from embedding_assets.alerts import pace
from embedding_assets.alerts.outbox import Outbox
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.orchestration.alarms import DAYS, Alarms
from embedding_assets_tests.receivers import Mailbox, Webhook, mailbox, webhook

DAY = DAYS[7]
PARTITION = f"lines|{DAY}"


@dataclass(frozen=True)
class Kind:
    """A kind of failure: how it happens, how it is healed, and which title its first message has."""

    name: str
    fail: Callable[[Alarms], None]
    heal: Callable[[Alarms], None]


@dataclass
class Row:
    """What was found in one line of the table."""

    kind: str
    condition: str
    cases: int = 0
    expected: int = 0
    received: int = 0
    lost: int = 0
    doubled: int = 0
    explained: int = 0
    problems: list[str] = field(default_factory=list)


def _runs(attribute: str) -> tuple[Callable[[Alarms], None], Callable[[Alarms], None]]:
    def fail(alarms: Alarms) -> None:
        getattr(alarms.faults, attribute).add(PARTITION)
        alarms.run(DAY)

    def heal(alarms: Alarms) -> None:
        getattr(alarms.faults, attribute).clear()
        alarms.run(DAY)

    return fail, heal


def _audits(partitions: list[str]) -> tuple[Callable[[Alarms], None], Callable[[Alarms], None]]:
    def fail(alarms: Alarms) -> None:
        alarms.faults.audit.update(partitions)
        alarms.audit()

    def heal(alarms: Alarms) -> None:
        alarms.faults.audit.clear()
        alarms.audit()

    return fail, heal


KINDS = [
    Kind("blocking check, ERROR", *_runs("error")),
    Kind("check that does not block, WARN", *_runs("warning")),
    Kind("failed run", *_runs("crash")),
    Kind("finding of an audit", *_audits([PARTITION])),
    Kind("200 findings of an audit", *_audits([f"lines|{day}" for day in DAYS[:200]])),
    Kind(
        "sensor that keeps failing",
        lambda alarms: alarms.ticks("finished_batches", "FAILURE", "FAILURE", "FAILURE"),
        lambda alarms: alarms.ticks("finished_batches", "SKIPPED"),
    ),
]


class Matrix:
    """Runs every kind under every condition."""

    def __init__(self, hook: Webhook, mail: Mailbox) -> None:
        self.hook, self.mail = hook, mail
        self.rows: list[Row] = []

    def run(self, kind: Kind) -> None:
        """All conditions of a kind."""
        self.row(kind, "undisturbed", lambda alarms: self._twice(kind, alarms))
        self.row(kind, "webhook down, then up", lambda alarms: self._down(kind, alarms, self.hook))
        self.row(kind, "mail refused, then taken", lambda alarms: self._down(kind, alarms, self.mail))
        self._deaths(kind)

    def row(self, kind: Kind, condition: str, play: Callable[[Alarms], None]) -> None:
        """One play on an instance of its own."""
        row = Row(kind.name, condition)
        with self._alarms() as alarms:
            play(alarms)
            self._count(row, alarms.store, 2)
        self.rows.append(row)
        print_row(row)

    def _twice(self, kind: Kind, alarms: Alarms) -> None:
        for step in (kind.fail, kind.heal):
            step(alarms)
            alarms.look()
            alarms.look()

    def _down(self, kind: Kind, alarms: Alarms, receiver: Webhook | Mailbox) -> None:
        if isinstance(receiver, Mailbox):
            receiver.refuses = True
        else:
            receiver.down()
        self._twice(kind, alarms)
        if isinstance(receiver, Mailbox):
            receiver.refuses = False
        else:
            receiver.up()
        alarms.cursor = None  # the daemon was started anew, and forgot
        alarms.look()
        alarms.look()

    def _deaths(self, kind: Kind) -> None:
        row = Row(kind.name, "killed at every write")
        with self._alarms() as alarms:
            start = alarms.store
            for step in (kind.fail, kind.heal):
                step(alarms)
                # Where the second step begins, the first one's messages are there and accepted.
                counting = MortalStore(copied(start))
                alarms.cursor = None
                alarms.look(counting)
                for dies_at in range(counting.operations):
                    for after in (False, True):
                        self._die_once(row, alarms, copied(start), dies_at, after)
                start = copied(counting)
        self.rows.append(row)
        print_row(row)

    def _die_once(self, row: Row, alarms: Alarms, store: ObjectStore, dies_at: int, after: bool) -> None:
        self._forget()
        known = set(Outbox(store, "local").read().messages)
        alarms.cursor = None
        with contextlib.suppress(Killed):
            alarms.look(MortalStore(store, dies_at, after=after))
        unrecorded = [
            one
            for log in Outbox(store, "local").read().logs.values()
            for delivery in log
            if delivery.ended_at is None
            for one in delivery.messages
        ]
        alarms.look(store)
        alarms.look(store)
        self._count(row, store, 1, known=known, unrecorded=unrecorded)

    def _count(
        self,
        row: Row,
        store: ObjectStore,
        expected: int,
        known: set[str] | None = None,
        unrecorded: list[str] | None = None,
    ) -> None:
        """Compare what came with what is in the outbox; `unrecorded`: what may come twice, once per channel."""
        told = set(Outbox(store, "local").read().messages) - (known or set())
        row.cases += 1
        if len(told) != expected:
            row.problems.append(f"{len(told)} messages in place of {expected}")
        may = Counter(unrecorded or [])
        for ids in (self.hook.ids, self.mail.ids):
            came = Counter(ids)
            row.expected += expected
            row.received += len(ids)
            row.lost += sum(one not in came for one in told) + max(expected - len(told), 0)
            for one, count in came.items():
                again = count - 1 + (one not in told)
                explained = min(again, may[one])
                may[one] -= explained
                row.explained += explained
                row.doubled += again - explained

    @contextlib.contextmanager
    def _alarms(self) -> Iterator[Alarms]:
        self._forget()
        with dg.instance_for_test() as instance:
            yield Alarms(instance, open_store("memory://"), f"{self.hook.url} {self.mail.url}")

    def _forget(self) -> None:
        self.hook.received.clear()
        self.mail.received.clear()


def copied(store: ObjectStore) -> ObjectStore:
    """A store with the same objects."""
    made = open_store("memory://")
    for item in store.walk(""):
        made.put_new(item.key, store.get(item.key))
    return made


def print_row(row: Row) -> None:
    """A line of the table."""
    print(
        f"{row.kind:33}{row.condition:26}{row.cases:6}{row.expected:10}{row.received:10}{row.lost:6}{row.doubled:9}"
        f"{row.explained:11}  {'; '.join(row.problems[:2])}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--daemon-rounds", type=int, default=6, help="rounds with a real daemon; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    print(
        f"{'failure':33}{'condition':26}{'cases':>6}{'expected':>10}{'received':>10}{'lost':>6}{'doubled':>9}{'explained':>11}"
    )
    # Who died is given up at once, and who was down is tried at once: the clock is no part of this table.
    before = pace.CLAIM_SECONDS, pace._FIRST_PAUSE
    pace.CLAIM_SECONDS, pace._FIRST_PAUSE = 0.0, 0.0
    with webhook() as hook, mailbox() as mail:
        matrix = Matrix(hook, mail)
        for kind in KINDS:
            matrix.run(kind)
        rows = matrix.rows
    pace.CLAIM_SECONDS, pace._FIRST_PAUSE = before
    if chosen.daemon_rounds:
        with tempfile.TemporaryDirectory(prefix="alert-matrix-") as folder:
            rounds = DaemonRounds(Path(folder), chosen.seed)
            rounds.run(chosen.daemon_rounds)
            expected, ids = rounds.expected(), rounds.hook.ids
            came = Counter(ids)
            again = sum(count - 1 for count in came.values())
            row = Row("failed runs", "daemon killed", chosen.daemon_rounds, len(expected), len(ids))
            row.lost = sum(one not in came for one in expected)
            row.explained = min(again, rounds.killed_at_acceptance)
            row.doubled = again - row.explained
            rows.append(row)
            print_row(row)
            print(f"  the daemon was killed {rounds.kills} times, {rounds.killed_at_acceptance} of them at acceptance")
            print(f"  undisturbed rounds: told {rounds.in_words()} after the run had failed")
    lost, doubled = (sum(getattr(row, name) for row in rows) for name in ("lost", "doubled"))
    problems = [problem for row in rows for problem in row.problems]
    print(
        f"{time.monotonic() - began:.0f} s; explained: the sender died between the channel's acceptance and its record"
    )
    print(f"alert-matrix: {sum(row.received for row in rows)} messages, {lost} lost, {doubled} doubled")
    return 1 if lost or doubled or problems else 0


if __name__ == "__main__":
    sys.exit(main())
