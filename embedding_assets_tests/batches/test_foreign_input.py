"""Input files of other programs: every line is a record of one collection, or is rejected by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.batches.balance import CellBalance, balance
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.collisions import collisions
from embedding_assets.batches.discover import discover
from embedding_assets.batches.foreign_input import Share, UnclaimedError, read_shares
from embedding_assets.batches.landing import counting_landings
from embedding_assets.batches.patterns import compile_pattern
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.results import poll
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.expectations import Foreign as ForeignRules
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.batches.conftest import DAY
from embedding_assets_tests.batches.test_crashes import FailingStore, PowerLost
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.forging import forge

MODEL = "text-embedding-3-small"
COMMON: dict[str, Any] = {"model": MODEL, "dimensions": 4}
PLAIN = Catalog(collections={"plain": CollectionSpec(name="plain", **COMMON)})
PARTS = Catalog(
    collections={
        "lines": CollectionSpec(name="lines", custom_id="LINE#{n:int}", **COMMON),
        "words": CollectionSpec(name="words", custom_id="WORD#{n:int}", **COMMON),
        "both-a": CollectionSpec(name="both-a", custom_id="TWO#{n:int}", **COMMON),
        "both-b": CollectionSpec(name="both-b", custom_id="TWO#{n}", **COMMON),
    }
)
T = TypeVar("T")


def line(custom_id: Any, given: Any, **body: Any) -> bytes:
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings"}
    return json.dumps({**request, "body": {"model": MODEL, "input": given, **body}}).encode()


SAME_ID = [line("r-1", "first text"), line("r-2", "other text"), line("r-1", "second text, another one")]
SEVERAL = [line("pair-1", ["one", "two"]), line("single", "three"), line("pair-2", ["four"])]
TOKENS = [line("tok-1", [9906, 1917]), line("tok-2", [[9906], [1917]])]
INTEGERS = [line(7, "text seven"), line(8, "text eight")]
MARKED = [b"\xef\xbb\xbf" + line("b-1", "first after the mark") + b"\r", line("b-2", "second") + b"\r", b"\r"]


def shares_of(folder: Path, lines: list[bytes], catalog: Catalog, named: str | None = None) -> dict[str, Share]:
    path = folder / "input.jsonl"
    path.write_bytes(b"".join(one + b"\n" for one in lines))
    patterns = {s.name: compile_pattern(s.custom_id) for s in catalog if s.custom_id is not None}
    return read_shares(path, "batch", catalog, patterns, named)


class ForgedApi(EmbeddingApi):
    """The real service, but for what the files of one batch hold; a vector for each input, told apart by its text."""

    def __init__(self, sandbox: Sandbox, lines: list[bytes]) -> None:
        super().__init__(ApiSettings(sandbox.api_key, sandbox.base_url), retries=1)
        self.lines = lines
        self.dimensions = 4

    def batch(self, folder: Path, metadata: dict[str, str]) -> None:
        path = folder / "real.jsonl"
        path.write_bytes(line("real", "text").replace(MODEL.encode(), b"wordllama-256"))
        self.create_batch(self.upload(path), metadata)
        while not all(batch.ended for batch in self.list_batches()):
            pass

    def download(self, file_id: str, path: Path) -> int:
        return path.write_bytes(b"".join(one + b"\n" for one in self.lines))

    def read(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        return take(iter([b"".join(self._answers())]))

    def _answers(self) -> Iterator[bytes]:
        for one in self.lines:
            try:
                raw = json.loads(one.removeprefix(b"\xef\xbb\xbf"))
            except ValueError:
                continue
            given = raw["body"]["input"]
            many = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
            data = [
                {"object": "embedding", "index": i, "embedding": vector(text, self.dimensions)}
                for i, text in enumerate(many)
            ]
            body = {"object": "list", "model": MODEL, "data": data[::-1], "usage": {"total_tokens": 3}}
            yield (
                json.dumps(
                    {"custom_id": raw["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}
                ).encode()
                + b"\n"
            )


def vector(given: Any, dimensions: int) -> list[float]:
    return [float(1 + sum(json.dumps(given).encode()) % (7 + i)) for i in range(dimensions)]


def landed(sandbox: Sandbox, folder: Path, lines: list[bytes], **forged: Any) -> tuple[ObjectStore, CellBalance]:
    """Discover, land and count one foreign batch with this input file, which `plain` is named for."""
    api = ForgedApi(sandbox, lines)
    vars(api).update(forged)
    store = open_store((folder / "store").as_uri())
    api.batch(folder, {"collection": "plain"})
    assert len(discover(api, store, PLAIN).claimed) == 1
    poll(api, store, PLAIN.get("plain"), DAY)
    books = balance(store, PLAIN.get("plain"), DAY)
    assert books.balanced
    assert not pending_cells(api, store, PLAIN).cells
    return store, books


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path / "service") as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("lines", "records", "rejected"),
    [
        (SAME_ID, {"r-2": "other text"}, ["batch:1 'r-1'", "batch:3 'r-1'"]),
        ([line("r-1", "text"), line("r-1", "text"), line("x", "x")], {"r-1": "text", "x": "x"}, []),
        ([line("r-1", "text", dimensions=4), line("r-1", "text"), line("x", "x")], {"x": "x"}, ["batch:1", "batch:2"]),
        (SEVERAL, {"pair-1#0": "one", "pair-1#1": "two", "single": "three", "pair-2#0": "four"}, []),
        ([line("a", ["1", "2"]), line("a#0", "other")], {"a#1": "2"}, ["batch:1 'a#0'", "batch:2 'a#0'"]),
        ([line("a", ["1", ""])], {"a#0": "1"}, ["batch:1 'a#1'"]),
        (TOKENS, {"tok-1": "", "tok-2#0": "", "tok-2#1": ""}, []),
        (INTEGERS, {"7": "text seven", "8": "text eight"}, []),
        (
            [line(7, "text"), line("7", "other"), line(True, "x"), line("y", "y")],
            {"y": "y"},
            ["batch:1", "batch:2", "batch:3"],
        ),
        (MARKED, {"b-1": "first after the mark", "b-2": "second"}, []),
        (
            [line("a", "a"), line("b", None), line("c", []), line("d", [1, "x"])],
            {"a": "a"},
            ["batch:2", "batch:3", "batch:4"],
        ),
        (
            [line("a", "a"), line("b", "b", model="other"), b"{broken", b"[]"],
            {"a": "a"},
            ["batch:2 'b'", "batch:3", "batch:4"],
        ),
    ],
)
def test_what_a_line_asks_for(tmp_path: Path, lines: list[bytes], records: dict[str, str], rejected: list[str]) -> None:
    (share,) = shares_of(tmp_path, lines, PLAIN, "plain").values()
    assert {record_id: text for record_id, text, _ in share.rows.values()} == records
    said = [f"{one.name} {one.reason}" for one in sorted(share.refused, key=lambda one: one.line)]
    assert len(said) == len(rejected)
    assert all(one.startswith(name) for one, name in zip(said, rejected, strict=True)), said


@pytest.mark.parametrize(
    ("lines", "accepted", "rejected"),
    [(SAME_ID, 1, 2), (SEVERAL, 4, 0), (TOKENS, 3, 0), (INTEGERS, 2, 0), (MARKED, 2, 0)],
    ids=["one id twice", "several inputs", "tokens", "integers", "byte-order mark"],
)
def test_what_is_answered_is_landed(
    alone: Sandbox, tmp_path: Path, lines: list[bytes], accepted: int, rejected: int
) -> None:
    _, books = landed(alone, tmp_path, lines)
    assert (books.accepted, books.rejected, books.pending) == (accepted, rejected, 0)
    assert {one.code for one in books.rejections} <= {"bad_line"}


def test_vectors_of_another_length_are_rejected_and_not_bought_again(alone: Sandbox, tmp_path: Path) -> None:
    _, books = landed(alone, tmp_path, [line("a", "a"), line("b", "b")], dimensions=8)
    assert (books.accepted, books.rejected, books.pending) == (0, 2, 0)
    assert all("8 dimensions, not 4" in one.reason for one in books.rejections)


def test_tokens_are_never_asked_again_since_their_text_is_unknown(alone: Sandbox, tmp_path: Path) -> None:
    api, store = ForgedApi(alone, [*TOKENS, line("text", "with a text")]), open_store((tmp_path / "store").as_uri())
    spec = PLAIN.get("plain").model_copy(update={"foreign": ForeignRules(ask_again=True)})
    catalog = Catalog(collections={"plain": spec})
    api.batch(tmp_path, {"collection": "plain"})
    discover(api, store, catalog)
    api.dimensions = 8  # each answer is rejected, and may be asked again
    poll(api, store, spec, DAY)
    books = balance(store, spec, DAY)
    assert (books.requested, books.rejected, books.again) == (4, 3, 1)
    assert all("its text is unknown, as another program sent tokens" in one.reason for one in books.rejections)


def test_a_batch_of_several_collections_is_in_the_books_of_all(alone: Sandbox, tmp_path: Path) -> None:
    lines = [line(f"LINE#{n}", f"line {n}") for n in range(10)] + [line(f"WORD#{n}", f"word {n}") for n in range(9)]
    lines += [line("WORT#9", "mistyped"), line("TWO#1", "ambiguous")]
    api, store = ForgedApi(alone, lines), open_store((tmp_path / "store").as_uri())
    api.batch(tmp_path, {})
    found = discover(api, store, PARTS)
    assert {f.collection: (f.count, f.rejected) for f in found.claimed} == {"lines": (10, 2), "words": (9, 0)}
    assert discover(api, store, PARTS).claimed == ()
    work = pending_cells(api, store, PARTS)
    assert not work.foreign
    assert {cell.collection for cell in work.cells} == {"lines", "words"}
    for name, accepted, rejected in (("lines", 10, 2), ("words", 9, 0)):
        poll(api, store, PARTS.get(name), DAY)
        books = balance(store, PARTS.get(name), DAY)
        assert (books.accepted, books.rejected, books.pending) == (accepted, rejected, 0)
        (one,) = counting_landings(store, name, DAY)
        assert (one.stray, one.remarks) == (0, ())
    reasons = " ".join(one.reason for one in balance(store, PARTS.get("lines"), DAY).rejections)
    assert "'WORT#9': no collection's pattern fits" in reasons
    assert "'TWO#1': the patterns of both-a and both-b both fit" in reasons


def test_a_crash_between_the_records_of_a_split_batch_and_then_another_declaration_counts_nothing_twice(
    alone: Sandbox, tmp_path: Path
) -> None:
    lines = [line(f"LINE#{n}", f"line {n}") for n in range(6)] + [line(f"WORD#{n}", f"word {n}") for n in range(4)]
    api, store = ForgedApi(alone, lines), open_store((tmp_path / "store").as_uri())
    api.batch(tmp_path, {})
    writes = 0
    while not any(item.key.endswith(layout.REQUEST) for item in store.walk("words")):
        writes += 1
        with suppress(PowerLost):
            discover(api, FailingStore(store, writes, False), PARTS)
    assert not any(item.key.endswith(layout.REQUEST) for item in store.walk("lines"))
    words = Catalog(collections={"words": PARTS.get("words")})
    discover(api, store, words)
    poll(api, store, words.get("words"), DAY)
    books = balance(store, words.get("words"), DAY)
    assert books.balanced
    assert (books.accepted, books.rejected, books.pending) == (4, 6, 0)


def test_damaged_notes_of_an_input_file_are_noticed(alone: Sandbox, tmp_path: Path) -> None:
    store, _ = landed(alone, tmp_path, SAME_ID)
    (key,) = [i.key for i in store.walk(layout.requests("plain")) if "/input-" in i.key]
    store.replace(key, store.get(key)[:-20])
    books = balance(store, PLAIN.get("plain"), DAY)
    assert key in str(books.damaged), books


LINES = st.lists(
    st.one_of(
        st.builds(
            line,
            st.one_of(
                st.sampled_from(["LINE#1", "LINE#2", "WORD#1", "TWO#1", "WORT#1", "LINE#1#0", "", 7, None, True]),
                st.builds("LINE#{}".format, st.integers(0, 30)),
                st.builds("WORD#{}".format, st.integers(0, 30)),
            ),
            st.one_of(st.sampled_from(["a", "b", "", None, 3, [], [1], ["x"], ["x", ""], [[1], [2]], ["x", 1], [[]]])),
            model=st.sampled_from([MODEL, MODEL, MODEL, "other"]),
        ),
        st.sampled_from([b"", b"\r", b"{broken", b"[]", b"3", b"\xff", b'{"custom_id": "LINE#3"}']),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(lines=LINES, mark=st.booleans())
def test_every_line_is_requested_or_rejected_by_name(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], mark: bool
) -> None:
    written = [b"\xef\xbb\xbf" + lines[0], *lines[1:]] if mark and lines else lines
    asked = {number: one for number, one in enumerate(lines, start=1) if one.strip()}
    try:
        shares = shares_of(tmp_path_factory.mktemp("input"), written, PARTS)
    except UnclaimedError:
        return  # it is left alone as a whole, and listed
    rejected = {one.line for share in shares.values() for one in share.refused}
    ids = [record_id for share in shares.values() for record_id in share.rows]
    assert len(ids) == len(set(ids))
    assert rejected <= set(asked)
    requested: set[str] = set()
    for number in set(asked) - rejected:
        wanted = _record_ids(json.loads(asked[number]))
        assert wanted <= set(ids) | {one.id for share in shares.values() for one in share.refused}
        requested |= wanted
    of_rejected = {i for n in rejected if _is_list(asked[n]) for i in _record_ids(json.loads(asked[n]))}
    assert set(ids) <= requested | of_rejected
    if not any(map(_is_list, asked.values())):
        refused = sum(len(share.refused) for share in shares.values())
        repeated = sum(share.repeated for share in shares.values())
        assert len(ids) + refused + repeated == len(asked)


def _is_list(one: bytes) -> bool:
    try:
        given = json.loads(one)["body"]["input"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(given, list) and len(given) > 0 and not isinstance(given[0], int)


def _record_ids(raw: Any) -> set[str]:
    given = raw["body"]["input"]
    if isinstance(given, list) and not isinstance(given[0], int):
        return {f"{raw['custom_id']}#{index}" for index in range(len(given))}
    return {str(raw["custom_id"])}


def test_records_without_a_text_reach_the_snapshot(alone: Sandbox, tmp_path: Path) -> None:
    cell = Cell.make(alone, tmp_path, model=MODEL, dimensions=4, documents=None)
    api = ForgedApi(alone, TOKENS)
    api.batch(tmp_path, {"collection": cell.spec.name})
    discover(api, cell.store, Catalog(collections={cell.spec.name: cell.spec}))
    poll(api, cell.store, cell.spec, DAY)
    today = Cell(alone, api, cell.store, cell.spec, cell.folder, DAY)
    today.build()
    today.compact()
    found = today.read().get(ids=["tok-1", "tok-2#0", "tok-2#1"])
    assert sorted(record.id for record in found) == ["tok-1", "tok-2#0", "tok-2#1"]
    assert not any(record.document for record in found)


def test_an_id_that_stands_for_different_texts_in_several_batches_is_named(alone: Sandbox, tmp_path: Path) -> None:
    cell = Cell.make(alone, tmp_path, model=MODEL, dimensions=4, documents=None)
    catalog = Catalog(collections={cell.spec.name: cell.spec})
    for lines in (["one", "two"], ["one", "other"], ["one"]):
        api = ForgedApi(alone, [line(f"request-{n}", text) for n, text in enumerate(lines)])
        api.batch(tmp_path, {"collection": cell.spec.name})
        discover(api, cell.store, catalog)
    (found,) = collisions(cell.store, cell.spec.name)
    assert (found.id, found.texts, len(found.days)) == ("request-1", 2, 2)
    rows = [row for row in check_collection(cell.store, cell.spec, "quick", tmp_path).rows if row["kind"] == "id"]
    assert [row["name"] for row in rows] == ["request-1"]
    assert "2 batches of other programs use it for 2 different texts" in str(rows[0]["state"])


NOTES: dict[str, Callable[[bytes], bytes | str | None]] = {
    "deleted": lambda data: None,
    "emptied": lambda data: b"",
    "cut": lambda data: data[:-9],
    "folder": lambda data: "folder",
}


@pytest.mark.parametrize("damage", NOTES)
@pytest.mark.parametrize("place", ["requests", "asked"])
def test_damaged_notes_of_an_input_file_are_found_and_written_again(
    alone: Sandbox, tmp_path: Path, place: str, damage: str
) -> None:
    spec = PLAIN.get("plain")
    store, books = landed(alone, tmp_path, SAME_ID)
    [key] = [item.key for item in store.walk(f"plain/{place}") if "/input-" in item.key]
    whole = store.get(key)
    changed = NOTES[damage](whole)
    store.delete([key])
    if isinstance(changed, bytes):
        store.put_new(key, changed)
    elif changed:
        store.put_new(f"{key}/x", b"x")
    found = check_collection(store, spec, "quick", tmp_path)
    named = [row for row in found.rows if row.get("verdict") == "corrupted"]
    assert bool(named) == ((place, damage) != ("asked", "deleted"))  # an earlier version wrote no copy
    repair(store, spec, level="quick", run_id="test", scratch=tmp_path).execute()
    assert store.get(key) == whole
    again = balance(store, spec, DAY)
    assert (again.accepted, again.rejections, again.damaged) == (books.accepted, books.rejections, ())
    assert not check_collection(store, spec, "quick", tmp_path).count("corrupted")


def test_notes_that_were_edited_and_sealed_again_are_not_believed(alone: Sandbox, tmp_path: Path) -> None:
    spec = PLAIN.get("plain")
    store, books = landed(alone, tmp_path, SAME_ID)
    [key] = [item.key for item in store.walk("plain/requests") if "/input-" in item.key]
    whole = store.get(key)
    forge(store, key, refused=[])
    assert check_collection(store, spec, "quick", tmp_path).count("corrupted")
    repair(store, spec, level="quick", run_id="test", scratch=tmp_path).execute()
    assert (store.get(key), balance(store, spec, DAY).rejections) == (whole, books.rejections)
