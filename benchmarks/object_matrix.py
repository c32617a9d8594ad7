"""Plays one damage to one object of a store: readers, `check`, the next runs, the audit; and judges what is left."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import shutil
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from object_damages import ObjectCase, apply, object_cases, stranger_cases
from store_world import NAMES, WHO, Content, Prepared, World, copied, opened_world, prepare, same
from task_memo import read_folder

from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.pipeline.findings import Row
from embedding_assets.pipeline.reports import read_statistics
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.verification import Level

# Hours between the looks of the sensors after a damage: some on the same day, and then days, each with its run.
_LOOKS = (0.25, 12.0, 13.0, 1.0, 1.0, 12.0, 12.0, 24.0, 24.0)
_QUIET = 2
_SECONDS = 300  # a case takes one, on an idle machine
# What a checksum, or a second object that says the same, must tell. Damage to the others is harmless, or it is found.
MUST_BE_FOUND = frozenset({"request", "batch", "ids", "landing", "delta manifest", "delta file", "snapshot manifest"})


@dataclass
class Played:
    """What became of a case.

    Attributes:
        found: by what: `quick`, `full`, `a run` (an error, or what was mended), `a reader`; empty: by nothing.
        changed: whether anything that a reader, a run or the audit gives was otherwise than without the damage.
        healed: `alone` by the next runs, or by the `audit` (which does what `repair` does); empty: neither.
        wrong, lost, doubled, stuck: in words; all empty where all is well.
        again: alerts that were told a second time.
        crash: a traceback's end.
    """

    case: ObjectCase
    found: str = ""
    healed: str = ""
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    again: int = 0
    crash: str = ""

    @property
    def right(self) -> bool:
        return not (self.wrong or self.lost or self.doubled or self.stuck or self.crash)

    @property
    def apart(self) -> bool:
        """Whether nothing could tell: a value that was edited together with every checksum of it."""
        return self.case.damage == "forged" and not self.found and not self.crash and not self.right

    @property
    def missed(self) -> bool:
        """Whether it should have been found."""
        # What is gone may never have been there: a batch without its record is one whose sender died.
        needed = self.case.kind in MUST_BE_FOUND and self.case.damage not in ("forged", "deleted")
        return not self.found and not self.apart and (not self.right or needed)


class Player:
    """Plays cases, one after the other, in one process."""

    def __init__(self, world: World, prepared: Prepared) -> None:
        self.world, self.prepared = world, prepared
        self._healthy: dict[tuple[str, Level], set[str]] = {}
        self._statistics: dict[str, Any] = {}
        with copied(world, prepared):
            for name in NAMES:
                for level in ("quick", "full"):
                    self._healthy[name, level] = set(self._check(name, level))
                self._statistics[name] = self._statistic(name)

    def play(self, case: ObjectCase) -> Played:
        """One case, from the damage to the verdict."""
        played = Played(case)
        with copied(self.world, self.prepared) as world:
            outside = world.folder / "outside"
            outside.mkdir()
            (outside / "precious.json").write_bytes(b"{}")
            before = read_folder(outside)
            cache = world.folder / "cache"
            if case.key.startswith("cache:"):
                self._copy_cache(cache)
            try:
                apply(case, world.folder / "store", cache, outside, self._placed)
                self._play(played, cache)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"
                played.crash = " ".join(said.split())[:300]
            if read_folder(outside) != before:
                played.lost.append("what lies outside the store was changed")
        return played

    def _play(self, played: Played, cache: Path) -> None:
        world, case = self.world, played.case
        if cache.exists():
            self._read_cached(played, cache)
        for name in NAMES:
            self._read_before(name, played)
        touched = self._about = [name for name in NAMES if name in case.collections] or list(NAMES)
        for level in ("quick", "full"):
            news = [name for name in touched if set(self._check(name, level)) - self._healthy[name, level]]
            if news:
                played.found = played.found or level
                break
        for name in touched:
            found = self._statistic(name)
            if found is not None and found != self._statistics[name]:
                played.wrong.append(f"the statistics of {name} are others")
        aside = self._quarantined()
        quiet = self._runs()
        if not played.found and (world.deployment.troubles or self._quarantined() != aside):
            played.found = "a run"
        first = self._left(quiet)
        if any(first.values()):
            # The audit of the next night, and the runs after it.
            for name in touched:
                if any(row.get("verdict") == "corrupted" for row in self._rows(name, "full")):
                    world.repair(name)
            quiet = self._runs()
            for what, some in self._left(quiet).items():
                getattr(played, what).extend(some)
            played.healed = "" if not played.right else "audit"
        else:
            played.healed = "alone"
        self._judge_alerts(played)

    def _copy_cache(self, cache: Path) -> None:
        [one] = (self.world.home / "cache").iterdir()
        shutil.copytree(one, cache / self._home_of(self.world.store.url))

    @staticmethod
    def _home_of(url: str) -> str:
        return hashlib.sha256(url.encode()).hexdigest()[:16]

    def _placed(self, key: str) -> str:
        """Where a key of the prepared cache is in this case's."""
        return f"{self._home_of(self.world.store.url)}/{key.partition('/')[2]}"

    def _read_cached(self, played: Played, cache: Path) -> None:
        name = played.case.collection
        right = self.prepared.versions[name][-1]
        rotten = not played.case.fresh
        content, _ = self.world.read(name, cache=cache, checksums=rotten)
        played.found = "on demand" if rotten else "a reader"
        if not isinstance(content, dict) or not same(content, right):
            played.wrong.append(f"a reader's cache gives {_short(content)}")
            if played.case.damage == "forged":
                played.found = ""

    def _read_before(self, name: str, played: Played) -> None:
        """A reader of the damaged store gets a version as it was, or an error that names what is wrong."""
        content, told = self.world.read(name)
        versions = self.prepared.versions[name]
        if isinstance(content, str):
            if content.startswith("WRONG"):
                played.wrong.append(f"a reader of {name}: {content}")
            elif content == "there is no snapshot" and not told:
                played.wrong.append(f"a reader of {name} is told that there is no snapshot")
        elif not any(same(content, one) for one in versions):
            played.wrong.append(f"a reader of {name} gets {_short(content)}")
        elif not same(content, versions[-1]) and not told:
            played.wrong.append(f"a reader of {name} gets an older version, and is not told")
        if told and name == played.case.collection:
            played.found = played.found or "a reader"

    def _runs(self) -> bool:
        """What sensors and schedules do, until there is nothing to do twice in a row; whether that came."""
        world, deployment = self.world, self.world.deployment
        quiet, today = 0, deployment.today
        world.ids.subject = ""
        for hours in _LOOKS:
            world.clock.move(hours)
            busy = False
            if deployment.today != today:
                today = deployment.today
                deployment.schedule()
            busy |= deployment.tick()
            world.ids.subject = "alerts"
            with contextlib.suppress(EmbeddingAssetsError):
                world.deliver()
            quiet = 0 if busy else quiet + 1
            if quiet >= _QUIET:
                return True
        return False

    def _left(self, quiet: bool) -> dict[str, list[str]]:
        """What is not as it should be, by kind."""
        world = self.world
        left: dict[str, list[str]] = {"wrong": [], "lost": [], "doubled": [], "stuck": []}
        if not quiet:
            last = world.deployment.troubles[-1:] or ["no error"]
            left["stuck"].append(f"there is still something to do ({last[0]})")
        for name in NAMES:
            self._judge(name, left)
        paid = Counter((p.custom_id, p.text) for p in world.service.paid if p.who == WHO and p.delivered)
        twice = [one for (one, _), times in paid.items() if times > 1]
        if twice:
            left["doubled"].append(f"{len(twice)} were paid for twice, {twice[0]} among them")
        return left

    def _judge(self, name: str, left: dict[str, list[str]]) -> None:
        world, wanted = self.world, self.prepared.wanted[name]
        content, told = world.read(name)
        if isinstance(content, str):
            left["lost" if not content.startswith("WRONG") else "wrong"].append(f"{name}: {content}")
            content = {}
        elif told:
            left["stuck"].append(f"readers of {name} are given an older version")
        gone = sorted(wanted.keys() - content.keys())
        more = sorted(content.keys() - wanted.keys())
        both = wanted.keys() & content.keys()
        other = [i for i in both if not same({i: wanted[i]}, {i: content[i]})]
        # What is wrong with the others, readers and balances tell.
        for row in self._rows(name, "full") if name in self._about else ():
            if row.get("verdict") in ("corrupted", "unknown") and row.get("kind") != "stranger":
                left["stuck"].append(f"check says of {row['kind']} {row['name']}: {row['verdict']}: {row['reason']}")
        try:
            books = world.deployment.books(name)
        except EmbeddingAssetsError as error:
            left["stuck"].append(f"the balance of {name}: {error}")
            books = []
        named = {one.name for cell in books for one in cell.rejections}
        lost = [i for i in gone if i not in named]
        if lost:
            left["lost"].append(f"{len(lost)} records of {name}, {lost[0]} among them")
        if len(lost) < len(gone):
            left["lost"].append(f"{len(gone) - len(lost)} records of {name} are rejected by name")
        if other:
            left["wrong"].append(f"{len(other)} records of {name} are others, {other[0]}: {content[other[0]][0]!r}")
        if more:
            left["doubled"].append(f"{len(more)} records of {name} that nobody asked for, {more[0]} among them")
        unnamed = self.prepared.rejected[name] - named
        if unnamed:
            left["lost"].append(f"{', '.join(unnamed)}: rejected, and not named any more")
        pending = sum(cell.pending for cell in books)
        if pending:
            left["stuck"].append(f"{pending} records of {name} are pending")

    def _judge_alerts(self, played: Played) -> None:
        told = "\n".join(self.world.inbox.letters)
        unreadable = told.count("could not be read")
        for number in (2, 3):
            if f"finding number {number}" not in told:
                if not unreadable:
                    played.lost.append(f"alert {number} was never told")
                unreadable -= 1
        played.again = sum(told.count(f"finding number {number}") for number in (0, 1))

    def _check(self, name: str, level: Level) -> Iterator[str]:
        for row in self._rows(name, level):
            yield " ".join(str(row.get(one)) for one in ("kind", "name", "verdict", "reason", "state"))

    def _rows(self, name: str, level: Level) -> list[Row]:
        found = check_collection(self.world.store, self.world.spec(name), level, self.world.scratch())
        return list(found.rows)

    def _statistic(self, name: str) -> Any:
        with contextlib.suppress(EmbeddingAssetsError):
            commit = head(self.world.store, name)
            return read_statistics(self.world.store, name, commit.version) if commit and commit.version else None
        return None

    def _quarantined(self) -> set[str]:
        return {item.key for name in NAMES for item in self.world.store.walk(f"{name}/quarantine")}


def _short(content: Content | str) -> str:
    return content if isinstance(content, str) else f"{len(content)} records"


_players: list[Player] = []
_open = contextlib.ExitStack()


def start(home: str) -> None:
    """Make this process ready for cases."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    prepared = pickle.loads((Path(home) / "prepared.pickle").read_bytes())
    _players.append(Player(_open.enter_context(opened_world(Path(home))), prepared))


def play(case: ObjectCase) -> Played:
    """One case, in a process that was started."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_SECONDS)
    try:
        return _players[0].play(case)
    finally:
        signal.alarm(0)


def _too_long(*_: object) -> None:
    raise RuntimeError(f"it takes more than {_SECONDS} s")


def all_cases(home: Path) -> list[ObjectCase]:
    """All cases, of a store that is prepared here first."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    prepared = prepare(home)
    files = read_folder(home / "store")
    files |= {f"cache:{path}": data for path, data in read_folder(home / "cache").items() if "/.verified/" in path}
    cases = [*object_cases(files, prepared.older), *stranger_cases(files)]
    assert len({case.name for case in cases}) == len(cases), "two cases have one name"
    return cases
