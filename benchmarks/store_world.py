"""A small store with everything that this package writes, prepared once; and copies of it, each with its own service.

Three collections: `lines` (several batches a day, small deltas), `words` (one batch a day, and one of another program)
and `parts` (two shards). Two days are in snapshots; on the third a delta waits for its compaction, a landing for its
delta, and batches at the service have ended that nobody has polled. The pipeline's own steps made all of it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from api_cases_others import line
from api_http import serving
from api_manners import Habits, Manner
from api_service import Service, vector
from api_world import Clock, Deployment, moved_clock
from reader_view import ReaderView
from task_memo import Kept, TaskMemo, digest_of, read_folder

from embedding_assets.alerts.delivery import deliver
from embedding_assets.alerts.message import Change, Message
from embedding_assets.alerts.outbox import Outbox
from embedding_assets.batches import identity
from embedding_assets.batches.submit import submit
from embedding_assets.catalog import CollectionSpec, Compaction
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.pipeline.cells import land_cell
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.reports import current_report
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import fetch_current

WHO = "me"
NAMES = ("lines", "parts", "words")
SPECS: dict[str, dict[str, Any]] = {
    "lines": {"batch_requests": 24, "delta_records": 24, "attempts": 1, "probe": False},
    "parts": {"shards": 2, "probe": False},
    "words": {"probe": False, "custom_id": "w-{n:int}"},
}
REFUSED = "lines-empty"  # it has no text
FOREIGN = tuple(f"w-{i}" for i in range(6))  # of another program; one more is of no collection
SCOPE = "matrix"
Content = dict[str, tuple[str, bytes]]  # id -> document, float32 bytes


class Ids:
    """Ids that are the same whenever the same is done again, so that what is made of them is, too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.subject = ""
        self.counts: dict[tuple[str, datetime], int] = {}

    def __call__(self, at: datetime | None = None) -> str:
        moment = (at or self._clock.at).replace(microsecond=0)
        count = self.counts[self.subject, moment] = self.counts.get((self.subject, moment), 0) + 1
        stamp = (moment + timedelta(microseconds=count)).strftime(layout._STAMP)
        return f"{stamp}-{Random(f'{self.subject} {stamp}').getrandbits(32):08x}"


@dataclass
class Prepared:
    """What copies are made of; the folders `store`, `cache`, `documents` are beside it."""

    at: datetime
    service: dict[str, Any]
    deployment: dict[str, Any]
    versions: dict[str, list[Content]]
    wanted: dict[str, Content]
    rejected: dict[str, frozenset[str]]
    sent: tuple[str, ...]
    older: dict[str, bytes]


_SERVICE = ("habits", "began", "files", "batches", "paid", "cancels", "opened", "emptied", "created")
_DEPLOYMENT = ("position", "past", "documents")


class Inbox:
    """A channel of alerts that takes everything."""

    id, number, label, form = "inbox", 1, "inbox", "text"

    def __init__(self) -> None:
        self.letters: list[str] = []
        self.down = False

    def send(self, letter: Any) -> str:
        if self.down:
            return "it is down"
        self.letters.append(f"{letter.title}\n{letter.body}")
        return ""


@dataclass
class World:
    """One store and its service, in a process that plays cases one after the other."""

    home: Path
    clock: Clock
    ids: Ids
    service: Service
    deployment: Deployment
    reader: ReaderView
    views: Kept
    folder: Path = field(default_factory=Path)
    inbox: Inbox = field(default_factory=Inbox)

    @property
    def store(self) -> ObjectStore:
        return self.deployment.store

    def spec(self, name: str) -> CollectionSpec:
        return self.deployment.catalog.get(name)

    def scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def compact_all(self) -> None:
        for name in NAMES:
            self.ids.subject = name
            self.deployment._step(lambda store, name=name: self.deployment._compact(store, self.spec(name)))

    def repair(self, name: str) -> list[Any]:
        """What the audit does with a collection in which it finds damage; what it did."""
        self.ids.subject = name
        planned = repair(self.store, self.spec(name), level="full", run_id="matrix", scratch=self.scratch())
        return list(planned.execute().rows)

    def read(self, name: str, *, checksums: bool = False, cache: Path | None = None) -> tuple[Content | str, bool]:
        """What a reader gets, or why it gets nothing; and whether it was told of a fallback."""
        told: list[str] = []
        try:
            found = fetch_current(self.store, name, cache or self.scratch(), told.append, checksums=checksums)
        except EmbeddingAssetsError as error:
            return str(error), True
        if found is None:
            return "there is no snapshot", bool(told)
        with contextlib.closing(found):
            content: Content = {}
            for part in found.manifest.databases:
                folder = found.folder / part.shard
                key = digest_of(read_folder(folder))
                view = self.views.get(key, lambda folder=folder: self.reader.ask("records", folder))
                if view is None:
                    return f"WRONG: chromadb does not open {part.id}", bool(told)
                if view["hidden"]:
                    return f"WRONG: {len(view['hidden'])} records are not found by their own vector", bool(told)
                for record_id, (document, embedding) in view["records"].items():
                    content[record_id] = (document, bytes.fromhex(embedding))
        return content, bool(told)

    def deliver(self) -> None:
        deliver(Outbox(self.store, SCOPE), [self.inbox], clock=lambda: self.clock().timestamp())  # type: ignore[list-item]


class _Deployment(Deployment):
    """One that says whose turn it is."""

    ids: Ids

    def _run(self, spec: CollectionSpec, *rest: Any, **how: Any) -> None:
        self.ids.subject = spec.name
        super()._run(spec, *rest, **how)

    def _compact(self, store: ObjectStore, spec: CollectionSpec) -> None:
        self.ids.subject = spec.name
        super()._compact(store, spec)


@contextlib.contextmanager
def opened_world(home: Path) -> Iterator[World]:
    """A world without a store; `home` has what was prepared, or gets it."""
    new_id, token = layout.new_id, identity.secrets
    with moved_clock() as clock, tempfile.TemporaryDirectory(prefix="world-", dir=home) as folder:
        ids = Ids(clock)
        layout.new_id = ids
        identity.secrets = _Tokens  # type: ignore[assignment]
        TaskMemo(home / "tasks").install()
        submit, ThreadPoolExecutor.submit = ThreadPoolExecutor.submit, _at_once  # type: ignore[method-assign,assignment]
        service = Service(Habits(manners=(Manner(), Manner(forms={20: "invalid"}))), clock)
        reader = ReaderView()
        with serving(service) as url:
            (home / "documents").mkdir(exist_ok=True)
            where = Path(tempfile.mkdtemp(dir=folder))
            deployment = _Deployment.make(WHO, url, where, clock, Random(1), SPECS)
            deployment.ids = ids
            for name in NAMES:
                known = deployment.catalog.get(name)
                deployment.catalog.collections[name] = known.model_copy(
                    update={"documents": f"{home}/documents/{name}.jsonl"}
                )
            deployment.folder = home / "documents"
            try:
                yield World(home, clock, ids, service, deployment, reader, Kept(home / "views"), Path(folder))
            finally:
                reader.close()
                layout.new_id, identity.secrets = new_id, token
                ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


def _at_once(pool: ThreadPoolExecutor, do: Callable[..., Any], /, *items: Any, **how: Any) -> Future[Any]:
    """`submit` without a thread: nothing waits for anything here, and starting a thread takes longer than its work."""
    future: Future[Any] = Future()
    try:
        future.set_result(do(*items, **how))
    except BaseException as error:
        future.set_exception(error)
    return future


class _Tokens:
    @staticmethod
    def token_hex(size: int) -> str:
        return "5a" * size


def prepare(home: Path) -> Prepared:
    """Make the store, once."""
    with opened_world(home) as world:
        deployment = world.deployment
        # Files are as old as they are; the clock of the steps is ahead of them.
        world.clock.at += timedelta(days=1)
        deployment.store = open_store(f"file://{home}/store")
        versions: dict[str, list[Content]] = {name: [] for name in NAMES}
        older: dict[str, bytes] = {}

        def texts(name: str, first: int, last: int, edition: str = "") -> dict[str, str]:
            return {f"{name}-{i}": f"text {i}{edition} of {name}" for i in range(first, last)}

        def write(name: str, more: dict[str, str]) -> None:
            deployment.write(name, {**deployment.documents.get(name, {}), **more})

        def look(hours: float = 1.0, times: int = 2) -> None:
            for _ in range(times):
                world.clock.move(hours)
                deployment.tick()

        def snapshot() -> None:
            world.compact_all()
            for name in NAMES:
                content, _ = world.read(name)
                assert isinstance(content, dict), (name, content, deployment.troubles)
                versions[name].append(content)
            for path in sorted((home / "store").rglob("*")):
                if path.is_file():
                    older.setdefault(str(path.relative_to(home / "store")), path.read_bytes())

        # The first day; one delta is lost, and healed.
        write("lines", texts("lines", 0, 48) | {REFUSED: ""})
        write("words", texts("words", 0, 30))
        write("parts", texts("parts", 0, 40))
        world.service.submit([line(i, text, dimensions=8) for i, text in texts_of((*FOREIGN, "unknown-9")).items()])
        deployment.schedule()
        look()
        snapshot()
        damaged = next((home / "store/lines/delta").glob("*/*/chroma.sqlite3"))
        damaged.write_bytes(damaged.read_bytes()[:5000])
        world.repair("lines")
        look()
        world.compact_all()
        # The second; some texts are new.
        world.clock.move(24)
        write("lines", texts("lines", 0, 8, ", again,") | texts("lines", 48, 80))
        write("words", texts("words", 30, 45))
        write("parts", texts("parts", 40, 60))
        deployment.schedule()
        look()
        snapshot()
        for name in NAMES:
            current_report(world.store, world.spec(name), world.scratch())
            world.read(name, cache=home / "cache")
        _tell(world)
        # The third, which is under way.
        world.clock.move(24)
        write("lines", texts("lines", 80, 100))
        deployment.schedule()
        world.clock.move(1)
        deployment.tick()
        write("lines", texts("lines", 100, 116))
        _ask_and_land(world, "lines", land=True)
        write("lines", texts("lines", 116, 130))
        write("words", texts("words", 45, 55))
        for name in ("lines", "words"):
            _ask_and_land(world, name, land=False)
        world.clock.move(1)
        world.service.advance()
        assert not deployment.troubles, deployment.troubles
        rejected = {
            name: frozenset(one.name for cell in deployment.books(name) for one in cell.rejections) for name in NAMES
        }
        assert len(rejected["lines"]) == 2, rejected
        documents = {**deployment.documents, "words": deployment.documents["words"] | texts_of(FOREIGN)}
        wanted = {
            name: {
                one: (text, vector(text).tobytes())
                for one, text in documents[name].items()
                if one not in rejected[name] and one != REFUSED
            }
            for name in NAMES
        }
        made = Prepared(
            world.clock.at,
            {name: getattr(world.service, name) for name in _SERVICE},
            {name: getattr(deployment, name) for name in _DEPLOYMENT},
            versions,
            wanted,
            rejected,
            tuple(world.inbox.letters),
            older,
        )
        (home / "prepared.pickle").write_bytes(pickle.dumps(made))
        return made


def texts_of(ids: Iterable[str]) -> dict[str, str]:
    """The texts that another program's batch asked for."""
    return {one: f"text of {one}" for one in ids}


def _ask_and_land(world: World, name: str, *, land: bool) -> None:
    world.ids.subject = name
    submit(world.deployment.api, world.store, world.spec(name), world.deployment.today)
    if land:
        world.clock.move(1)
        land_cell(world.deployment.api, world.store, world.spec(name), world.deployment.today)


def _tell(world: World) -> None:
    """Alerts: two that were accepted, one whose sender died, and one that still waits."""
    outbox = Outbox(world.store, SCOPE)
    for number in range(4):
        at = world.clock.at.timestamp()
        change = Change("check", f"check_{number}", True, at, found=f"finding number {number}")
        outbox.put(Message(f"{number:04d}-alert", f"run {number}", at, (change,), ("inbox",)))
        if number < 2:
            world.deliver()
        if number == 2:
            outbox.claim("inbox", 2, ["0002-alert"], at)
        world.clock.move(0.01)


@contextlib.contextmanager
def copied(world: World, prepared: Prepared) -> Iterator[World]:
    """The prepared store again, with its service, for one case."""
    with tempfile.TemporaryDirectory(prefix="case-", dir=world.home) as folder:
        world.folder = Path(folder)
        # Files are linked: nobody changes one in its place.
        shutil.copytree(world.home / "store", world.folder / "store", copy_function=os.link)
        for name, value in copy.deepcopy(prepared.service).items():
            setattr(world.service, name, value)
        for name, value in copy.deepcopy(prepared.deployment).items():
            setattr(world.deployment, name, value)
        for name in NAMES:
            # Everything is done at the first look that it can be done at.
            spec = world.spec(name).model_copy(update={"compaction": Compaction(after_deltas=1)})
            world.deployment.catalog.collections[name] = spec
        world.deployment.troubles, world.deployment.remarks = [], []
        world.deployment.killed, world.deployment.deaths = set(), 0
        world.clock.at = prepared.at
        world.ids.counts.clear()
        world.inbox = Inbox()
        world.deployment.store = open_store(f"file://{world.folder}/store")
        yield world


def same(one: Content, other: Content) -> bool:
    """Whether two contents have the same records; vectors up to the rounding of unit vectors."""
    return one.keys() == other.keys() and all(
        one[i][0] == other[i][0]
        and np.allclose(np.frombuffer(one[i][1], np.float32), np.frombuffer(other[i][1], np.float32), atol=1e-5)
        for i in one
    )
