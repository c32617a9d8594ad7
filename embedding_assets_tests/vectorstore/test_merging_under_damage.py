"""Merging is commutative and idempotent and the last submitted wins, whatever is damaged and healed on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedding_assets.store.objects import open_store
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import DAMAGES, assert_whole, deliver, file_of, flip, heal, held

batches = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=3
)  # (submitted, first id, how many)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(batches, st.randoms(use_true_random=False), st.data())
def test_every_delta_that_was_ever_whole_counts_once_it_is_healed(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, int, int]], random: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    store = open_store("memory://")
    expected: dict[str, tuple[int, str]] = {}
    waiting: list[tuple[str, list[str], int]] = []
    for number, (submitted, first, length) in enumerate(sent):
        batch_id, ids = f"batch-{number}", numbered(first, first + length)
        waiting.append((batch_id, ids, submitted))
        for record_id in ids:
            expected[record_id] = max(expected.get(record_id, (-1, "")), (submitted, batch_id))
    random.shuffle(waiting)
    waiting += data.draw(st.lists(st.sampled_from(waiting), max_size=1))  # delivered twice
    snapshots: list[Manifest] = []
    while waiting:
        batch_id, ids, submitted = waiting.pop(0)
        delta = deliver(store, folder, batch_id, ids, submitted=submitted, text=batch_id)
        damage = data.draw(st.sampled_from([None, None, *DAMAGES]))
        if damage:
            DAMAGES[damage](store, delta)
            waiting.append((batch_id, ids, submitted))  # it will be quarantined, and its batch polled again
        if snapshots and data.draw(st.booleans()):
            flip(store, file_of(snapshots[-1], "data_level0.bin"))
        if damage or data.draw(st.booleans()):
            done = compact(store, SPEC, run_id="test", scratch=folder)
            if done is not None and done.manifest is not None:
                snapshots = [done.manifest]
    # And whatever there is of it by now, from the beginning: the same.
    merged = heal(store, folder).manifest
    rebuilt = heal(store, folder, rebuild=True).manifest
    assert merged is not None
    assert rebuilt is not None
    assert held(store, folder) == {i: b for i, (_, b) in expected.items()}
    assert assert_whole(store).id == rebuilt.id
    assert rebuilt.count == merged.count == len(expected)
    assert all(entry.report for entry in list_quarantine(store, "lines"))
