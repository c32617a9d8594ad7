"""What the pipeline does by itself about a failure, and what a person can do: the night's page, in two sentences."""

from __future__ import annotations

from typing import NamedTuple

from embedding_assets.alerts.message import Severity


class Advice(NamedTuple):
    """What happens by itself, and what a person can do."""

    by_itself: str
    to_do: str


_STALE = Advice(
    "It is looked at every hour; a compaction of something new ends it.",
    "See with `embedding-assets status` where it waits: do sensors run, do documents arrive, do batches finish?",
)
_CHECKS: dict[tuple[str, Severity], Advice] = {
    ("results_are_complete", "ERROR"): Advice(
        "The cell's next run polls its batches again.",
        "If it stays, compare `batches` on the check's page with the API's list; materialize the cell's results.",
    ),
    ("results_are_complete", "WARN"): Advice(
        "What waits for a limit of the account or for a late batch goes on by itself. Rejected records do not: they "
        "were asked for as often as `attempts` allows, or can never be embedded. Of an id that batches of other "
        "programs use for different texts, the text that was submitted last counts.",
        "A limit of the account: see its plan and billing. Rejected records: read `rejections` on the check's page and "
        "correct the documents; corrected ones are asked for again. Ids with different texts: read `collisions` "
        "there, and give each text an id of its own.",
    ),
    ("deltas_are_whole", "ERROR"): Advice(
        "The corrupted delta is moved to the quarantine, its batches are polled afresh, and a new delta is built.",
        "Nothing, unless no recovery follows: then `embedding-assets repair`, and `embedding-assets quarantine list`.",
    ),
    ("deltas_are_whole", "WARN"): Advice(
        "Nothing that is stored is damaged; the next run builds what lacks a delta, and the next audit looks again. "
        "Records that are set aside stay so: all others are stored and compacted, and none is asked for again.",
        "If it stays, see the reason on the check's page: the store or a declaration is in the way. Records that are "
        "set aside: read the reason with `embedding-assets quarantine list`; after an update that mends it, delete "
        "their delta with `embedding-assets deltas delete`, and the next run builds it of all records.",
    ),
    ("snapshot_is_whole", "ERROR"): Advice(
        "The next compaction moves a corrupted snapshot to the quarantine and goes on from the newest good version, "
        "else from all deltas; readers get the newest good version meanwhile.",
        "Nothing, unless no recovery follows: then `embedding-assets repair`, and `embedding-assets snapshots list`.",
    ),
    ("snapshot_is_whole", "WARN"): Advice(
        "Nothing was moved; the next audit looks again.",
        "If it stays, see the reason on the check's page: the store or a declaration is in the way.",
    ),
    ("vectors_are_sound", "ERROR"): Advice(
        "Nothing: the snapshot holds what came back.",
        "Find the records' batch by `ea:batch`, correct the documents or the model, and let them be embedded again.",
    ),
    ("centroid_is_steady", "WARN"): Advice(
        "Nothing: the snapshot is whole, and readers have it.",
        "Compare the maps of the two versions; did other texts come in, or did the model change behind its name?",
    ),
    ("snapshot_is_fresh", "WARN"): _STALE,
    ("snapshot_is_fresh", "ERROR"): _STALE,
}
# What nobody but the owner of the documents can mend; what was found says what to look at.
_VECTORS = Advice(
    "Nothing: the snapshot is whole and serves. It is judged again by the next compaction.",
    "Look at the snapshot's report, and at what was embedded since the last one that passed.",
)
_OF_VECTORS = ("vectors_are_sound", "texts_are_not_empty", "duplicates_are_few", "centroid_is_steady")
_OTHERS: dict[str, Advice] = {
    **dict.fromkeys(_OF_VECTORS, _VECTORS),
    "batches_are_claimed": Advice(
        "The batches are left alone. They are looked at again when the collections' declarations change, and are no "
        "longer named once they are older than `foreign_days`.",
        "If a batch is meant for a collection, read its reason on the check's page and correct the collection's "
        "`custom_id`, or name the collection in the batch's metadata. Otherwise nothing.",
    ),
    "model_is_as_declared": Advice(
        "While the line is wrong, nothing is asked for and no reader answers. What was asked before is compacted.",
        "Put the line back that the check names, or give the new model a collection of its own.",
    ),
    "rejects_are_few": Advice(
        "What can be asked for again is, as often as `attempts` allows.",
        "Read the reasons in the check `results_are_complete` of the same cell.",
    ),
    "snapshot_is_fresh": Advice(
        "Nothing more than always: batches are polled and deltas compacted as they come.",
        "See whether documents still come, whether batches are stuck at the API, and whether the sensors run.",
    ),
}
_ANY_CHECK = Advice(
    "It is evaluated again by the next run that makes or audits this partition.",
    "See what was found on the check's page.",
)


def for_check(name: str, severity: Severity) -> Advice:
    """The advice for a failed check."""
    return _CHECKS.get((name, severity)) or _OTHERS.get(name, _ANY_CHECK)


def for_run(*, requested: bool, severity: Severity) -> Advice:
    """The advice for a failed run.

    Args:
        requested: whether a sensor asked for it, which does so again.
        severity: STOPPED: so many attempts have failed that a person is needed.
    """
    if severity == "STOPPED":
        return Advice(
            "So many attempts have failed that it is tried again every 12 hours only, or once there is something else.",
            "Look at the run, remove the cause, and launch the run once by hand: attempts count anew from there.",
        )
    if requested:
        return Advice(
            "The sensor asks for it again, after growing pauses.", "Nothing yet; if it goes on, look at the run."
        )
    return Advice("Nothing: nobody but a person or a schedule asks for it.", "Look at the run, and launch it again.")


def for_instigator(kind: str) -> Advice:
    """The advice for a sensor or a schedule that keeps failing."""
    return Advice(
        f"The daemon goes on trying; until it succeeds, nothing is asked for by this {kind}.",
        "Read the error of its last tick on its page: mostly a setting or a credential.",
    )
