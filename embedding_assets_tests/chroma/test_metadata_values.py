"""What is accepted as metadata comes back from a delta and a snapshot as it went in, whoever wrote and reads it."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_assets.chroma.examine import examine
from embedding_assets.chroma.merge import merge
from embedding_assets.chroma.read import is_readable, read_records
from embedding_assets.chroma.sources import read_source
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.write import write
from embedding_assets.floats import comes_back
from embedding_assets.records import RESERVED_PREFIX, Metadata, RecordBatch, clean_id, clean_metadata, clean_text
from embedding_assets_tests.chroma.databases import NAME, api_records, client, joined, typed

SPEC = DatabaseSpec(NAME, 4, "l2")
EDGES: list[Any] = [
    {"x": -0.0},
    {"x": [-0.0, 1.5]},
    {"x": 5e-324},
    {"x": 2.2250738585072e-310},
    {"x": 1.7976931348623157e308},
    {"x": 1e308},
    {"x": 1.23456789012345e300},
    {"x": -9.87654321012345e-290},
    {"n": 2**53 + 1},
    {"n": 2**63 - 1},
    {"n": -(2**63)},
    {"n": 2**63},
    {"n": [2**63 - 1, -(2**63)]},
    {"a": True, "b": 1, "c": 1.0, "d": [True], "e": [1], "f": [1.0]},
    {"": "x"},
    {"a.b.c": "x"},
    {"$and": "y"},
    {"chroma:x": "y"},
    {"a": ""},
    {"a": [""]},
    {"a": "x\x00y"},
    {"a\x00b": "x"},
    {"a": ["x\x00y"]},
    {"\ud800": "x"},
    {"a": ["\ud800"]},
    {"k" * 5000: "v" * 100_000},
    {"a": []},
    {"a": [1, 1.0]},
    {"a": [True, 1]},
    {"a": [["x"]]},
    {"a": [None]},
    {"a": {"b": 1}},
    {"a": ["[[", ":{", "[{"]},
    {"x": math.nan},
    {"x": [math.inf]},
]

scalars = st.text(max_size=8) | st.integers(-(2**64), 2**64) | st.floats() | st.booleans() | st.none()
lists = st.one_of(*(st.lists(s, max_size=4) for s in (st.text(max_size=5), st.integers(), st.floats(), st.booleans())))
anything = st.dictionaries(st.text(max_size=4), scalars | lists | st.lists(scalars, max_size=3), max_size=4)


def accepted(metadatas: list[Any]) -> list[Metadata]:
    clean = []
    for metadata in metadatas:
        with contextlib.suppress(ValueError):  # refused by name
            clean.append(clean_metadata(metadata))
    return clean


def landed(folder: Path, metadatas: list[Metadata]) -> Source:
    """As a batch's results lie in the store."""
    names = [f"r{i}" for i in range(len(metadatas))]
    vectors = np.random.default_rng(1).standard_normal((len(names), 4)).astype(np.float32)
    pq.write_table(RecordBatch(names, vectors, [f"t{n}" for n in names], metadatas).to_arrow(), folder / "r.parquet")
    return Source(folder / "r.parquet", "b", "b", 1, "d")


def own(metadatas: list[Metadata]) -> list[Any]:
    return typed_deep([{k: v for k, v in m.items() if not k.startswith(RESERVED_PREFIX)} for m in metadatas])


def typed_deep(metadatas: list[Any]) -> list[Any]:
    return [
        {k: (t, [(type(i), repr(i)) for i in v] if isinstance(v, list) else repr(v)) for k, (t, v) in one.items()}
        for one in typed(metadatas)
    ]


def assert_come_back(metadatas: list[Metadata], said: list[Metadata] | None = None) -> None:
    """Through a delta and a snapshot, written directly and by the API, read directly and by `collection.get`."""
    wanted = own(metadatas)
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = landed(folder, said or metadatas)
        delta = folder / "delta"
        assert write(delta, SPEC, [source]).engine == "direct"
        assert examine(delta, SPEC, [source]).problems == []
        for hindrance in ("", "to see what the API writes"):
            snapshot = folder / f"snapshot{len(hindrance)}"
            report = merge(snapshot, SPEC, [Source(delta, "d")], hindrance)
            assert report.engine == ("api" if hindrance else "direct")
            assert examine(snapshot, SPEC, [source]).problems == []
        for database in (delta, folder / "snapshot0", snapshot):
            assert is_readable(database)
            read = joined(read_records(database))
            assert own(read.metadatas) == wanted
            assert own(api_records(database, folder).metadatas) == wanted


def test_what_is_accepted_of_the_edges_comes_back_everywhere() -> None:
    clean = accepted(EDGES)
    assert len(clean) == 17
    assert_come_back(clean)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(anything, min_size=1, max_size=30))
def test_whatever_is_accepted_comes_back_everywhere(metadatas: list[Any]) -> None:
    if clean := accepted(metadatas):
        assert_come_back(clean)


def test_minus_zero_in_a_landing_of_an_earlier_version_becomes_zero() -> None:
    assert_come_back([{"x": 0.0, "l": [0.0, 1.0]}], said=[{"x": -0.0, "l": [-0.0, 1.0]}])


@given(st.floats())
def test_a_float_is_settled_once_and_for_all(value: float) -> None:
    for metadata in accepted([{"x": value}]):
        assert typed_deep(accepted([metadata])) == typed_deep([metadata])
        assert float(f"{value:.13g}") == float(f"{metadata['x']:.13g}") or math.isclose(
            value, float(str(metadata["x"])), rel_tol=1e-14, abs_tol=1e-322
        )


@pytest.mark.parametrize(("clean", "value"), [(clean_id, "a\x00"), (clean_id, "\ud800"), (clean_text, "x\x00")])
def test_ids_and_texts_that_do_not_come_back_are_refused(clean: Any, value: str) -> None:
    with pytest.raises(ValueError, match=r"NUL|surrogate"):
        clean(value)


def test_lists_are_found_by_what_they_contain_and_survive_a_second_merge(tmp_path: Path) -> None:
    source = landed(tmp_path, [{"tags": ["red", "green"]}, {"tags": ["blue"], "n": [1, 2]}, {"tags": "red"}])
    write(tmp_path / "delta", SPEC, [source])
    merge(tmp_path / "db", SPEC, [Source(tmp_path / "delta", "d")])
    (tmp_path / "more").mkdir()
    newer = Source(landed(tmp_path / "more", [{"tags": ["green"]}]).path, "c", "c", 2, "e")
    report = merge(tmp_path / "db", SPEC, [newer])
    assert (report.engine, report.replaced, report.kept) == ("direct", 1, 2)
    with client(tmp_path / "db") as opened:
        handle = opened.get_collection(NAME, embedding_function=None)
        assert handle.get(where={"tags": {"$contains": "blue"}})["ids"] == ["r1"]
        assert handle.get(where={"tags": {"$contains": "green"}})["ids"] == ["r0"]
        assert handle.get(where={"n": {"$contains": 2}})["ids"] == ["r1"]


def test_a_shard_takes_the_lists_of_its_records(tmp_path: Path) -> None:
    source = landed(tmp_path, [{"n": [i, i + 1]} for i in range(9)])
    write(tmp_path / "delta", SPEC, [source])
    halves = [Source(tmp_path / "delta", "d", shard=shard, shards=2) for shard in (0, 1)]
    found = {i: m["n"] for h in halves for b in read_source(h, NAME) for i, m in zip(b.ids, b.metadatas, strict=True)}
    assert found == {f"r{i}": [i, i + 1] for i in range(9)}


def test_numbers_that_the_log_would_change_are_written_with_their_index(tmp_path: Path) -> None:
    # Landings of earlier versions and legacy data hold whatever number was accepted there.
    rng = np.random.default_rng(5)
    numbers = [float(n) for n in rng.standard_normal(400) * 10.0 ** rng.integers(-40, 40, 400)]
    unsettled = [n for n in numbers if not comes_back(n)]
    assert unsettled
    source = landed(tmp_path, [{"x": n, "list": [n, 0.5]} for n in unsettled])
    report = write(tmp_path / "delta", SPEC, [source])
    assert "which its log would change" in report.obstacle
    merge(tmp_path / "snapshot", SPEC, [Source(tmp_path / "delta", "d")])
    for folder in (tmp_path / "delta", tmp_path / "snapshot"):
        assert examine(folder, SPEC, [source]).problems == []
        found = [m["x"] for m in api_records(folder, tmp_path).metadatas]
        assert found == [m["x"] for m in joined(read_records(folder)).metadatas] == unsettled
