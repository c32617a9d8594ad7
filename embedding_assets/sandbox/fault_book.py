"""The rules in force, and how often each has been used."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from embedding_assets.sandbox.faults import RULE, BatchFault, Fault, HttpFault
from embedding_assets.sandbox.index import FaultRow, Index


@dataclass(frozen=True)
class Entry:
    """A rule in force; `matched` counts the matches that went free too."""

    id: str
    rule: Fault
    matched: int = 0

    @property
    def spent(self) -> bool:
        """Whether the rule has been used as often as it should be."""
        return self.rule.times is not None and self.matched >= self.rule.skip + self.rule.times


class FaultBook:
    """Rules are counted down where they are kept, so that a restart does not begin the count again."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._entries = [Entry(row.id, RULE.validate_json(row.rule), row.matched) for row in index.fault_rows()]

    def add(self, rule: Fault) -> Entry:
        """Put a rule in force, after those that are."""
        entry = Entry(f"fault-{uuid.uuid4().hex}", rule)
        with self._lock:
            self._write([*self._entries, entry])
        return entry

    def entries(self) -> list[Entry]:
        """All rules, spent ones too, so that a test can see whether its rule was met."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Behave from now on; batches that were created under a rule keep it."""
        with self._lock:
            self._write([])

    def for_batch(self, metadata: Mapping[str, str], filename: str) -> BatchFault:
        """The rule for a new batch: the first that matches, or one that does nothing."""

        def fits(rule: Fault) -> bool:
            return (
                isinstance(rule, BatchFault)
                and rule.metadata.items() <= metadata.items()
                and fnmatchcase(filename, rule.filename)
            )

        rule = self._take([entry.id for entry in self.entries() if fits(entry.rule)])
        return rule if isinstance(rule, BatchFault) else BatchFault()

    def for_request(self, method: str, path: str) -> HttpFault | None:
        """The rule for an HTTP request, if one matches."""

        def fits(rule: Fault) -> bool:
            return isinstance(rule, HttpFault) and fnmatchcase(method, rule.method) and fnmatchcase(path, rule.path)

        rule = self._take([entry.id for entry in self.entries() if fits(entry.rule)])
        return rule if isinstance(rule, HttpFault) else None

    def _take(self, fitting: list[str]) -> Fault | None:
        """Count a match for the first unspent rule; answer the rule if it does not go free."""
        if not fitting:
            return None
        with self._lock:
            for position, entry in enumerate(self._entries):
                if entry.id in fitting and not entry.spent:
                    used = replace(entry, matched=entry.matched + 1)
                    self._write([*self._entries[:position], used, *self._entries[position + 1 :]])
                    return entry.rule if entry.matched >= entry.rule.skip else None
        return None

    def _write(self, entries: list[Entry]) -> None:
        self._index.write_faults(
            [FaultRow(entry.id, RULE.dump_json(entry.rule).decode(), entry.matched) for entry in entries]
        )
        self._entries = entries
