"""Finds deltas that are gone though the current snapshot was made of them, and makes them again.

What they are made of, in this order: the landings of their batches, which are the API's own answers; then, for what
has no landing any more, the snapshot itself. Batches of which neither is left are pending: the next run of their day
asks the API for them. Nothing is asked or paid for here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedding_assets.batches.kinds import fits
from embedding_assets.batches.landing import LOST, Landing, all_landings, flaw_of
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError, StoreError, UnreadableError
from embedding_assets.pipeline.cells import Log, build_cell_deltas
from embedding_assets.pipeline.findings import Row
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.records import Origin
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import LogEnd, load_snapshot, log_end
from embedding_assets.vectorstore.delta import DeltaRef, list_deltas, readable_deltas
from embedding_assets.vectorstore.gone import Claims, GoneDelta, batches_held, claimed, count_in_words, gone_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.salvage import fetched

GONE = "gone delta"  # the kind of such a finding
_NAMED = 5


@dataclass(frozen=True)
class Gone:
    """A delta that is gone, and what there is to make it again of.

    Attributes:
        delta: which, and what was in it.
        landed: its batches that have a whole landing.
        held: of its other batches, the records that the current snapshot has; None where that cannot be read.
        lost: its batches of which neither is left; the API may have them.
        asked_again: those of them that the API has lost, too: their books name each record, which is asked again.
        landings: the landings, by batch.
    """

    delta: GoneDelta
    landed: tuple[str, ...]
    held: Counter[Origin] | None
    lost: tuple[str, ...]
    asked_again: tuple[str, ...]
    landings: dict[str, Landing]

    @property
    def day(self) -> str | None:
        """Of its cell, where that is known."""
        days = [self.delta.contents.day] if self.delta.contents else [one.day for one in self.landings.values()]
        return next(iter(days), None)

    @property
    def records(self) -> int | None:
        """How many it held, as far as that is known."""
        if self.delta.contents:
            return self.delta.contents.records
        return sum(self.held.values()) if self.held is not None else None

    @property
    def sources(self) -> str:
        """What it can be made again of, in words; empty where nothing of it is left."""
        parts = []
        if self.landed:
            count = len(self.landed)
            parts.append("the landing of its batch" if count == 1 else f"the landings of {count} batches")
        if self.held:
            parts.append(f"{count_in_words(sum(self.held.values()), 'record')} in the current snapshot")
        return " and ".join(parts)

    def __str__(self) -> str:
        what = "" if self.records is None else f" with {count_in_words(self.records, 'record')}"
        said = f"delta {self.delta.id}{what} is gone"
        if self.sources:
            said += f"; it can be made again of {self.sources}"
        if self.lost:
            some = ", ".join(self.lost[:_NAMED]) + (", ..." if len(self.lost) > _NAMED else "")
            said += f"; of {'batch' if len(self.lost) == 1 else 'batches'} {some} nothing is left but what the API has"
        elif self.delta.contents and not self.delta.contents.batches:
            said += "; it was made of legacy data, which a rebuild adopts again where its folder is there"
        elif not self.sources:
            said += "; nothing in the store says what was in it"
        return said


def find_gone(store: ObjectStore, spec: CollectionSpec, scratch: Path, *, quarantined: bool = False) -> list[Gone]:
    """The deltas that are gone and that the current snapshot was made of, where no other delta stands for them.

    Only where there are any is the snapshot read.

    Args:
        store, spec: the collection.
        scratch: an existing folder on a disk with room for the snapshot.
        quarantined: also those in the quarantine, which the next run of their day builds of what the API says.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    end = log_end(store, spec.name)
    claims = claimed(store, spec.name, end)
    gone = [one for one in gone_deltas(store, spec.name, claims) if quarantined or not one.quarantined]
    if not gone:
        return []
    counts = _counted(store, _current(store, spec, end, claims), {one.id for one in gone}, scratch)
    landings, nowhere = _landings(store, as_held(store, spec), gone, counts, scratch)
    every = readable_deltas(store, list_deltas(store, spec.name))
    fresh = batches_held([one for one in every if one.id not in claims.deltas], claims.kind)
    merged = {(entry.batch_id, entry.landing_id) for one in every for entry in one.batches}
    found = []
    for one in gone:
        # What another delta holds that is to be merged yet is as good as made again.
        mine = None if counts is None else {o: n for o, n in counts.items() if o.delta_id == one.id}
        legacy = one.contents is not None and not one.contents.batches  # its records name no delta
        if mine is not None and not legacy and not [o for o in mine if o.batch_id not in fresh]:
            continue  # others have replaced, or will replace, every record of it
        batches = set(one.open) | {o.batch_id for o in mine or () if o.batch_id not in fresh}
        landed = {
            batch: landings[batch]
            for batch in sorted(batches & landings.keys())
            if (batch, landings[batch].landing_id) not in merged
        }
        held = None if mine is None else Counter({o: n for o, n in mine.items() if o.batch_id in batches - set(landed)})
        there = {o.batch_id for o in held or ()}
        lost = tuple(sorted(batches - set(landed) - there))
        found.append(Gone(one, tuple(landed), held, lost, tuple(b for b in lost if b in nowhere), landed))
    return found


def gone_rows(store: ObjectStore, spec: CollectionSpec, scratch: Path) -> list[Row]:
    """What `check` says of deltas that are gone: no data is damaged, but it is there once only, or pending."""
    return [
        {
            "kind": GONE,
            "name": one.delta.id,
            "day": one.day,
            "verdict": "unknown",
            "records": one.records,
            "reason": str(one),
            "remedy": _AGAIN if one.sources else _PENDING,
        }
        for one in find_gone(store, spec, scratch)
        if one.sources or not one.asked_again or one.asked_again != one.lost
    ]


_AGAIN = "`embedding-assets repair` makes it again."
_PENDING = "The next run of its day asks the API for its batches."


def left_without(store: ObjectStore, spec: CollectionSpec, refs: Sequence[DeltaRef], scratch: Path) -> dict[str, str]:
    """What there would be of the records of these deltas without them, in words, by delta.

    Args:
        store, spec, refs: which.
        scratch: an existing folder on a disk with room for the current snapshot.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    if not refs:
        return {}
    end = log_end(store, spec.name)
    current = _current(store, spec, end, claimed(store, spec.name, end))
    counts = _counted(store, current, {ref.id for ref in refs}, scratch) or Counter()
    landed = {
        (day, batch): some[0]
        for day in {ref.day for ref in refs}
        for batch, some in all_landings(store, spec.name, day).items()
    }
    said = {}
    manifests = {one.id: one for one in readable_deltas(store, refs)}
    for ref in refs:
        batches = [entry.batch_id for entry in manifests[ref.id].batches] if ref.id in manifests else []
        there = [landed[ref.day, batch] for batch in batches if (ref.day, batch) in landed]
        whole = sum(one.accepted > 0 and _is_whole(store, one, scratch) for one in there)
        held = count_in_words(sum(n for origin, n in counts.items() if origin.delta_id == ref.id), "record")
        of = (
            "the landing of its batch"
            if len(batches) == 1
            else f"the landings of {whole} of its {len(batches)} batches"
        )
        said[ref.id] = f"{of}, {held} in the current snapshot" if whole else f"{held} in the current snapshot alone"
    return said


@dataclass(frozen=True)
class MadeAgain:
    """What was made again.

    Attributes:
        rows: one per thing done, or that could not be done.
        settled: the gone deltas whose records are all in other deltas by now, or asked again by name.
        built: the new deltas.
    """

    rows: tuple[Row, ...] = ()
    settled: tuple[str, ...] = ()
    built: tuple[Manifest, ...] = ()


def make_again(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    run_id: str,
    scratch: Path,
    quarantined: bool = False,
    log: Log = lambda message: None,
) -> MadeAgain:
    """Make deltas that are gone again: of the landings of their batches, and of the current snapshot.

    What cannot be made again is left as it is, and said.

    Args:
        store, spec: the collection.
        run_id: who does it.
        scratch: an existing folder on a disk with room for the snapshot, and three times the records.
        quarantined: as for `find_gone`.
        log: told what is done.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    gone = find_gone(store, spec, scratch, quarantined=quarantined)
    if not gone:
        return MadeAgain()
    rows: list[Row] = []
    built: list[Manifest] = []
    for day in sorted({landing.day for one in gone for landing in one.landings.values()}):
        try:
            done = build_cell_deltas(store, spec, day, run_id=run_id, scratch=scratch, log=log)
        except StoreError:
            raise
        except EmbeddingAssetsError as error:
            rows.append({"action": "left", "name": day, "reason": error.reason, "remedy": error.remedy})
            continue
        built += done.built
        rows += [_made(one, f"of the landings of {len(one.batches)} batches") for one in done.built]
    wanted = {origin for one in gone for origin in one.held or ()}
    end = log_end(store, spec.name)
    claims = claimed(store, spec.name, end)
    current = _current(store, spec, end, claims)
    if wanted and current is not None:
        landing_ids = {
            (one.delta.id, batch): landing
            for one in gone
            if one.delta.contents
            for batch, landing in one.delta.contents.batches
        }
        days = {one.delta.id: one.day for one in gone}

        def place(origin: Origin) -> tuple[str, str]:
            day = days.get(origin.delta_id) or layout.day_of(origin.submitted)
            return day, landing_ids.get((origin.delta_id, origin.batch_id), origin.delta_id)

        held = as_held(store, spec)
        try:
            with fetched(store, current, scratch) as source:
                made = source.make_deltas(store, held, wanted, place, run_id=run_id, scratch=scratch)
            built += made
            rows += [_made(one, f"of what {current.id} holds") for one in made]
        except StoreError:
            raise
        except EmbeddingAssetsError as error:
            rows.append({"action": "left", "name": current.id, "reason": error.reason, "remedy": error.remedy})
    now_held = {entry.batch_id for one in built for entry in one.batches}
    now_held |= batches_held(readable_deltas(store, list_deltas(store, spec.name)), claims.kind)
    settled = []
    for one in gone:
        batches = {*one.landed, *one.lost, *(origin.batch_id for origin in one.held or ())}
        if batches and batches <= now_held | set(one.asked_again):
            settled.append(one.delta.id)
        else:
            rows.append({"action": "left", "name": one.delta.id, "reason": str(one)})
    for row in rows:
        log(f"{row['action']}: {row['name']}: {row['reason']}")
    return MadeAgain(tuple(rows), tuple(settled), tuple(built))


def _made(delta: Manifest, of: str) -> Row:
    return {"action": "made again", "name": delta.id, "reason": of, "records": delta.count}


def _current(store: ObjectStore, spec: CollectionSpec, end: LogEnd, claims: Claims) -> Manifest | None:
    """The manifest of the current version; None where it cannot be read."""
    commit = end.head
    if commit is None or commit.version != claims.version:
        return None
    try:
        return load_snapshot(store, spec.name, commit)
    except CorruptedError:
        return None


def _counted(store: ObjectStore, current: Manifest | None, deltas: set[str], scratch: Path) -> Counter[Origin] | None:
    """How many records the current version has of these deltas; None where it is damaged or cannot be read."""
    if current is None:
        return None
    try:
        with fetched(store, current, scratch) as source:
            return source.count(deltas)
    except (CorruptedError, UnreadableError):
        return None


def _landings(
    store: ObjectStore, spec: CollectionSpec, gone: Iterable[GoneDelta], counts: Counter[Origin] | None, scratch: Path
) -> tuple[dict[str, Landing], set[str]]:
    """The whole landings with records of the batches of these deltas, by batch; and those that the API has lost."""
    gone = list(gone)
    wanted = {batch for one in gone for batch in one.open} | {origin.batch_id for origin in counts or ()}
    days: Iterable[str] = {one.contents.day for one in gone if one.contents}
    if any(one.contents is None for one in gone):
        days = store.folders(layout.results(spec.name))
    found: dict[str, Landing] = {}
    nowhere = set()
    for day in days:
        for batch, some in all_landings(store, spec.name, day).items():
            if batch in wanted and some[0].status == LOST:
                nowhere.add(batch)
            elif batch in wanted and some[0].accepted and fits(some[0], spec) and _is_whole(store, some[0], scratch):
                found[batch] = some[0]
    return found, nowhere


def _is_whole(store: ObjectStore, landing: Landing, scratch: Path) -> bool:
    with ScratchFolder("landing", scratch) as work:
        return not flaw_of(store, landing, Path(work))
