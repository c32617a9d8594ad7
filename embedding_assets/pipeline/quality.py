"""Judges a snapshot's vectors by their numbers and by what the collection's owner expects. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from embedding_assets.catalog import CollectionSpec, VectorKind
from embedding_assets.insight.statistics import Shift, Statistics, centroid_shift
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot

AS_DECLARED = "model_is_as_declared"
SOUND = "vectors_are_sound"
TEXTS = "texts_are_not_empty"
DUPLICATES = "duplicates_are_few"
STEADY = "centroid_is_steady"
REJECTS = "rejects_are_few"
FRESH = "snapshot_is_fresh"
# Norms of a model that nothing is known of may lie between the median's tenth and ten times it.
_ODD_FACTOR = 10.0

Number = float | int | str


@dataclass(frozen=True)
class Judgement:
    """What one check found.

    Attributes:
        check: its name.
        passed: whether what was found is as expected.
        said: in words, with what to do where it is not.
        severe: whether a failure makes answers wrong, rather than being for a person to look at.
        numbers: what it rests on.
    """

    check: str
    passed: bool
    said: str
    severe: bool = False
    numbers: dict[str, Number] = field(default_factory=dict)


# Of each check of a snapshot's vectors: what it asks.
CHECKS = {
    AS_DECLARED: "The vectors are of the model, the dimension and the distance that are declared.",
    SOUND: "All components are numbers, no vector is 0, and lengths are what the model gives.",
    TEXTS: "Records have a text, but for the share that is allowed (`quality.empty_share`).",
    DUPLICATES: "Exact and near duplicates, against `quality.duplicate_share` and `near_duplicate_share`, if declared.",
    STEADY: "The centre of the vectors is where it was in the version before, within `quality.centroid_shift`, and the "
    "records that came with this version are like the others, within `newcomers_off`.",
}


def judge_vectors(now: Statistics, before: Statistics | None, spec: CollectionSpec) -> list[Judgement]:
    """One judgement for each of `CHECKS`.

    Args:
        now: the current version's numbers.
        before: those of the version that it was made from, if there are any.
        spec: what is expected.
    """
    return [
        _as_declared(now, spec),
        _sound(now, spec),
        _texts(now, spec),
        _duplicates(now, spec),
        _steady(now, before, spec),
    ]


def _as_declared(now: Statistics, spec: CollectionSpec) -> Judgement:
    has, declared = VectorKind(now.model, now.dimension, now.distance), spec.vectors
    said = f"{now.model}, {now.dimension} dimensions, {now.distance}, as declared"
    if has != declared:
        said = (
            f"the snapshot holds {has}; declared is {declared}. Put {has.settings_unlike(declared)} back in the "
            "declaration. If the other is meant, declare a new collection: vectors of two kinds cannot be searched "
            "together."
        )
    return Judgement(AS_DECLARED, has == declared, said, True, {"dimension": now.dimension, "model": now.model})


def _sound(now: Statistics, spec: CollectionSpec) -> Judgement:
    numbers: dict[str, Number] = {"sampled_records": now.sampled, "broken": now.broken, "zero": now.zero}
    if now.broken or now.zero:
        said = (
            f"of {now.sampled} records, {now.broken} have a component that is no number, {now.zero} are the zero "
            "vector: no search finds them. Find their batch by `ea:batch`, and let it be embedded again."
        )
        return Judgement(SOUND, False, said, True, numbers)
    if not now.norms:
        return Judgement(SOUND, True, "there is no vector to look at", False, numbers)
    least, median, greatest = now.norms[::2]
    numbers |= {"norm_least": least, "norm_median": median, "norm_greatest": greatest}
    low, high = spec.norm_range or (median / _ODD_FACTOR, median * _ODD_FACTOR)
    fits = low <= least and greatest <= high
    said = f"lengths of vectors are {least:.4g} to {greatest:.4g}"
    if not fits:
        said += (
            f"; {low:.4g} to {high:.4g} is expected. Was another model at work, or are they not normalised? "
            "If it is right so, declare `quality.norm`."
        )
    return Judgement(SOUND, fits, said, False, numbers)


def _texts(now: Statistics, spec: CollectionSpec) -> Judgement:
    share, most = now.share(now.empty), spec.quality.empty_share
    fits = most is None or share <= most
    said = f"{now.empty} of {now.sampled} records have no text"
    if not fits:
        said += f"; at most {_percent(most)} may. Readers get vectors that they cannot show; see `quality.empty_share`."
    return Judgement(TEXTS, fits, said, False, {"empty_share": share, "sampled_records": now.sampled})


def _duplicates(now: Statistics, spec: CollectionSpec) -> Judgement:
    near = now.share(now.near)
    numbers: dict[str, Number] = {"duplicate_share": now.duplicates, "near_duplicate_share": near}
    parts = []
    for what, share, most in (
        ("repeat another one's vector", now.duplicates, spec.quality.duplicate_share),
        (f"are nearer than {now.near_distance:g} to another one", near, spec.quality.near_duplicate_share),
    ):
        if most is not None and share > most:
            parts.append(f"{_percent(share)} of the records {what}; at most {_percent(most)} may")
    said = "; ".join(parts) or f"{_percent(now.duplicates)} repeat another one's vector, {_percent(near)} nearly do"
    if now.sampled < now.count:
        which = "near ones" if now.searched else "both"
        said += f" ({which} among {now.sampled:,} of {now.count:,} records)"
    return Judgement(DUPLICATES, not parts, said, False, numbers)


def _steady(now: Statistics, before: Statistics | None, spec: CollectionSpec) -> Judgement:
    numbers: dict[str, Number] = {}
    said, odd = [], []
    if before is None:
        said.append("there is no version before, or none with numbers, to compare with")
    else:
        try:
            shift = centroid_shift(now, before)
        except ValueError as error:
            said.append(f"not compared: {error}")
        else:
            said.append(f"the centre moved by {_of_spread(shift)}")
            numbers |= {"centroid_shift": shift.beyond_chance, "compared_with": before.version}
            odd += _too_far("centroid_shift", shift, spec.quality.centroid_shift)
    if now.newcomers_off is not None:
        said.append(f"the records that came with this version are {_of_spread(now.newcomers_off)} off the others")
        numbers |= {"newcomers_off": now.newcomers_off.beyond_chance, "newcomers_sampled": now.newcomers}
        odd += _too_far("newcomers_off", now.newcomers_off, spec.quality.newcomers_off)
    if odd:
        said += odd
        said.append("other texts than before came in, or the model behind the name changed: compare the maps")
    return Judgement(STEADY, not odd, "; ".join(said), False, numbers)


def _of_spread(shift: Shift) -> str:
    return f"{shift.moved:.3f} of the spread ({shift.by_chance:.3f} may be chance)"


def _too_far(name: str, shift: Shift, most: float | None) -> list[str]:
    return [] if most is None or shift.beyond_chance <= most else [f"`{name}` allows {most:g} beyond chance"]


def judge_rejects(requested: int, rejected: int, spec: CollectionSpec) -> Judgement:
    """Whether the share of a cell's records that were rejected is as small as it should be."""
    share, most = rejected / requested if requested else 0.0, spec.quality.rejected_share
    fits = most is None or share <= most
    said = f"{rejected} of {requested} records were rejected"
    if not fits:
        said += (
            f", {_percent(share)}; at most {_percent(most)} may be. See the reasons in `results_are_complete`; "
            "mend the documents, they are asked for again."
        )
    return Judgement(REJECTS, fits, said, True, {"rejected_share": share, "rejected": rejected, "requested": requested})


def judge_freshness(store: ObjectStore, spec: CollectionSpec, at: datetime | None = None) -> Judgement | None:
    """Whether the newest delta of the current snapshot is young enough; None where nothing is expected.

    It is the delta's age that counts: a rebuilt snapshot or one that was rolled back to brings nothing new.

    Raises:
        StoreError, CorruptedError: it cannot be told just now.
    """
    rule = spec.freshness
    if rule is None:
        return None
    commit = head(store, spec.name)
    deltas = load_snapshot(store, spec.name, commit).deltas if commit else ()
    made = max((time for one in deltas if (time := layout.time_of(one)) is not None), default=None)
    if made is None:
        said = "there is no snapshot yet, or none with a delta. Materialize the collection's first cell."
        return Judgement(FRESH, False, said)
    age = (at or layout.now()) - made
    late = next((limit for limit in (rule.fail, rule.warn) if limit is not None and age > limit), None)
    said = f"the newest delta in the snapshot is {_hours(age)} old"
    if late is not None:
        said += f"; {_hours(late)} is expected. Do the sensors run, do new documents arrive, do batches finish?"
    severe = rule.fail is not None and age > rule.fail
    return Judgement(FRESH, late is None, said, severe, {"age_hours": age.total_seconds() / 3600})


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.3g} %"


def _hours(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.1f} days"
