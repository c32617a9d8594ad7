"""Every JSON object in a store proves itself: what it is, where it belongs, and that no bit of it is another."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import embedding_assets
from embedding_assets.alerts.message import Message
from embedding_assets.alerts.outbox import Claim, End, Outbox
from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.asked_log import AskedEntry
from embedding_assets.batches.awaited import Awaited, Late, note, note_late
from embedding_assets.batches.discover import Found, mark_folder
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.held import Held, note_held
from embedding_assets.batches.identity import StoreIdentity
from embedding_assets.batches.input_notes import InputNotes, write_input_notes
from embedding_assets.batches.landing import DamagedLanding, Landing, all_landings
from embedding_assets.batches.refused_documents import RefusedDocuments, record_refused
from embedding_assets.batches.requests import (
    GivenUp,
    Request,
    SentBatch,
    give_up,
    read_requests,
)
from embedding_assets.errors import CorruptedError
from embedding_assets.pipeline.landings import move_landings_aside
from embedding_assets.pipeline.statistics import damaged_reports, write_statistics
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.store.sealed import CHECKSUM, checksum_of, decode, dump, encode, kind_of
from embedding_assets.vectorstore.commit import head, load_commit
from embedding_assets.vectorstore.manifest import load_manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.alerts.making import NOW, message
from embedding_assets_tests.cells import Cell, receipt_lines
from embedding_assets_tests.insight.samples import cloud, numbers

pytestmark = pytest.mark.service

KINDS = (
    AskedEntry,
    Awaited, Claim, End, Found, GivenUp, Held, InputNotes, Landing, Late, Message, RefusedDocuments, Request, SentBatch,
    StoreIdentity,
)  # fmt: skip
BITS = 1_500  # of an object; of larger ones so many, evenly spread


def _decoded(kind: type[Any]) -> Callable[[ObjectStore, str], bool]:
    def noticed(store: ObjectStore, key: str) -> bool:
        try:
            decode(kind, key, store.get(key))
        except CorruptedError:
            return True
        return False

    return noticed


def _commit(store: ObjectStore, key: str) -> bool:
    collection, *_, name = key.split("/")
    return load_commit(store, collection, int(name.removesuffix(".json"))) is None


def _manifest(store: ObjectStore, key: str) -> bool:
    try:
        load_manifest(store, key)
    except CorruptedError:
        return True
    return False


def _report(store: ObjectStore, key: str) -> bool:
    return all(
        entry.report is None or entry.report.key != key
        for entry in list_quarantine(store, key.split("/", maxsplit=1)[0])
    )


def _statistics(store: ObjectStore, key: str) -> bool:
    return key.split("/")[-2] in damaged_reports(store, key.split("/", maxsplit=1)[0])


# What reads each kind, and so notices what is wrong with one.
READERS: dict[str, Callable[[ObjectStore, str], bool]] = {
    **{kind_of(kind): _decoded(kind) for kind in KINDS},
    "commit": _commit,
    "quarantine report": _report,
    "statistics": _statistics,
    # Manifests say in fields of their own what they are, and where they belong.
    "delta": _manifest,
    "snapshot": _manifest,
}


@pytest.fixture(scope="module")
def world(finished: Cell, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A store in which everything has happened, of each kind twice where there can be two; not to be changed."""
    cell = finished.copy(tmp_path_factory.mktemp("everything"))
    store, name, day = cell.store, cell.spec.name, cell.day
    cell.write(receipt_lines(30))
    cell.deliver()
    cell.compact()
    requests = read_requests(store, name, day)
    for number, asked in enumerate(requests[:2]):
        request, batch = asked.request, asked.batch
        assert batch is not None
        record_refused(
            store,
            name,
            f"2026-01-0{number + 1}",
            [Refused("input.jsonl", number + 1, f"line-{number}", "it has no text")],
        )
        note_held(store, request, "no quota", "insufficient_quota")
        give_up(store, request, batch)
        note(store, name, day, Awaited(batch.batch_id, "waiting for 3 answers"))
        note_late(store, name, day, ApiBatch(batch.batch_id, "in_progress", created_at=batch.created_at))
        write_input_notes(
            store,
            name,
            day,
            request.request_id,
            InputNotes((Refused("input.jsonl", number + 1, f"line-{number}", "no JSON"),)),
        )
        key = f"{mark_folder(cell.catalog)}/batch_{number}.json"
        store.put_new(key, encode(Found(f"batch_{number}", day, None, reason="none"), key))
    for landing in list(all_landings(store, name, day).values())[:2]:
        copied = replace(landing[0], landing_id=layout.new_id())
        store.put_new(f"{copied.folder}/{layout.MANIFEST}", encode(copied, f"{copied.folder}/{layout.MANIFEST}"))
        move_landings_aside(store, name, [DamagedLanding(copied.folder, "its files are gone")], "test")
    outbox = Outbox(store, "all")
    for number in range(2):
        outbox.put(message(number, channels=("hook",)))
        claim = outbox.claim("hook", number, [message(number).id], NOW)
        assert claim is not None
        outbox.end("hook", claim, accepted=True, at=NOW)
    for generation in (1, 2):
        version = layout.new_version(generation)
        write_statistics(store, numbers(cloud(5), collection=name, version=version))
    assert head(store, name) is not None
    return cell


def objects(store: ObjectStore) -> dict[str, list[str]]:
    """The keys of all JSON objects by kind; also of those whose names do not say that they are JSON."""
    found: dict[str, list[str]] = {}
    for item in store.walk(""):
        if item.key.endswith((".parquet", ".sqlite3", ".bin", ".pickle", ".png", ".html")) or not item.size:
            continue
        try:
            content = json.loads(store.get(item.key))
        except ValueError:
            continue
        # What lies in the quarantine is as it was found, but for the report.
        if isinstance(content, dict) and ("/quarantine/" not in item.key or item.key.endswith(f"/{layout.REPORT}")):
            found.setdefault(content.get("object", content.get("kind", "nothing")), []).append(item.key)
    return found


def test_every_json_object_is_sealed_and_has_a_reader(world: Cell) -> None:
    found = objects(world.store)
    assert sorted(found) == sorted(READERS)
    for kind, keys in found.items():
        for key in keys:
            content = json.loads(world.store.get(key))
            assert content.pop(CHECKSUM) == checksum_of(content), key
            assert kind in ("delta", "snapshot") or content["key"] == key
            assert not READERS[kind](world.store, key), key


@pytest.mark.parametrize("kind", sorted(READERS))
def test_every_flipped_bit_is_noticed(world: Cell, kind: str) -> None:
    key = objects(world.store)[kind][0]
    data = world.store.get(key)
    # Beside it nothing else is read: a report is found by listing the quarantine.
    store = open_store("memory://")
    for bit in range(0, len(data) * 8, max(1, len(data) * 8 // BITS)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        store.replace(key, bytes(flipped))
        assert READERS[kind](store, key), f"bit {bit} of {key}"


@pytest.mark.parametrize("kind", sorted(READERS))
def test_another_object_in_its_place_is_noticed(world: Cell, kind: str) -> None:
    found = objects(world.store)
    key, *others = found[kind]
    assert others, f"there is but one {kind}"
    store = open_store("memory://")
    for other in [*others, *(some[0] for name, some in found.items() if name != kind)]:
        store.replace(key, world.store.get(other))
        assert READERS[kind](store, key), f"{other} in the place of {key}"


PLACES = ("..", "../../other", "/etc", "a/../../b", "", "a\0b", ".")
NAMES: dict[str, list[tuple[str | int, ...]]] = {
    "request": [("request_id",), ("day",), ("collection",), ("input_notes",), ("documents", "name"), ("ids", "name")],
    "asked entry": [("request", "request_id"), ("request", "day"), ("request", "ids", "name")],
    "landing": [("landing_id",), ("day",), ("collection",), ("records_file", "name")],
    "quarantine report": [("folder",), ("name",), ("files", 0, "original"), ("files", 0, "key")],
    "delta": [("id",), ("day",), ("collection",), ("files", 0, "path")],
    "snapshot": [("id",), ("collection",), ("files", 0, "path")],
    "commit": [("version",)],
}


@pytest.mark.parametrize(("kind", "where"), [(kind, where) for kind, some in NAMES.items() for where in some])
def test_no_object_leads_out_of_its_place(world: Cell, kind: str, where: tuple[str | int, ...]) -> None:
    key = objects(world.store)[kind][0]
    store = open_store("memory://")
    for place in PLACES:
        content = json.loads(world.store.get(key))
        content.pop(CHECKSUM)
        inner: Any = content
        for step in where[:-1]:
            inner = inner[step]
        inner[where[-1]] = place
        store.replace(key, dump({**content, CHECKSUM: checksum_of(content)}))
        assert READERS[kind](store, key), f"{place!r}"


# What may be written to a store: sealed objects, marks without content, and files that others vouch for.
WRITTEN = re.compile(
    r"(encode|_encoded|seal)\(.*\)|\w+\.to_bytes\(\)|b'.*'|str\(end\.head\.version\)\.encode\(\)", re.DOTALL
)
NAMED = {
    "pipeline/moved.py": "data",  # an object as it is, put where it says that it belongs
    "pipeline/reports.py": "data",  # pictures and the page
    "batches/restoring.py": "entry.ids_file",  # Parquet that its name proves
    "cli/demo_damage.py": "change(store.get(key))",  # damages what is there, for the demonstration
    "pipeline/statistics.py": "data",  # sealed the line before
    "vectorstore/commit.py": "str(end.head.version).encode()",  # the pointer, which the log is held against
    "vectorstore/quarantine.py": "data",  # the same
    "vectorstore/unstorable.py": "sink.getvalue().to_pybytes()",  # Parquet, which its report names
}


def test_nothing_else_is_written() -> None:
    package = Path(embedding_assets.__file__).parent
    wrong = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith(("sandbox/", "store/")):
            continue
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and len(call.args) == 2):
                continue
            of_store = ast.unparse(call.func.value).endswith("store")
            if not of_store or call.func.attr not in ("put_new", "replace"):
                continue
            what = ast.unparse(call.args[1])
            if not WRITTEN.fullmatch(what) and NAMED.get(name) != what:
                wrong.append(f"{name}:{call.lineno} writes {what}")
    assert wrong == []
