"""Holds what a deployment has against what it asked for and what the service's ledger says."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from api_service import Service, vector
from api_world import Deployment

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.read import read_records
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.transfer import download_files

_NAMED = 4


@dataclass(frozen=True)
class Expected:
    """What must be true of one collection in the end, beside its own documents being in the snapshot.

    Attributes:
        foreign: records of other programs' batches that must be in the snapshot: id to text, or to an array of tokens.
        rejected: ids that must be rejected by name, or else be nowhere but named.
        maybe: ids that may be accepted or rejected by name, but not be lost.
        pending: ids that are still pending, which a check must say.
        attempts: how often a text may be paid for whose answers are of no use.
        bought_again: ids that may be paid for twice, since the service gave the first answer to nobody in time.
        said: words, one of which a check, a mark or the status must say.
        refused: nothing may be paid for, and an error says this word.
    """

    foreign: Mapping[str, Any] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    attempts: int = 3
    bought_again: frozenset[str] = frozenset()
    said: tuple[str, ...] = ()
    refused: str = ""


@dataclass
class Verdict:
    """What was found, in words; a case is right where all four are empty."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.stuck)

    def lines(self) -> list[str]:
        """Each kind that is not empty, shortened."""
        return [
            f"{kind}: {'; '.join(some[:_NAMED])}" + (f"; and {len(some) - _NAMED} more" if len(some) > _NAMED else "")
            for kind, some in vars(self).items()
            if some
        ]


def judge(
    service: Service, deployments: Sequence[Deployment], expected: Mapping[tuple[str, str], Expected], *, quiet: bool
) -> Verdict:
    """The verdict on a case that has come to rest, or that has run out of days."""
    service.advance()
    verdict = Verdict()
    for one in deployments:
        for spec in one.catalog:
            _collection(service, one, spec, expected.get((one.name, spec.name), Expected()), verdict)
        if not quiet and not any(each.refused for each in expected.values()):
            last = one.troubles[-1] if one.troubles else "no error"
            verdict.stuck.append(f"{one.name} still has something to do ({last})")
    for who, whose in service.cancels:
        if who != whose:
            verdict.wrong.append(f"{who} cancelled a batch of {whose}")
    return verdict


def _collection(
    service: Service, deployment: Deployment, spec: CollectionSpec, expected: Expected, verdict: Verdict
) -> None:
    asked = deployment.documents.get(spec.name, {})
    if expected.refused:
        if any(p.who == deployment.name for p in service.paid):
            verdict.doubled.append(f"{deployment.name} paid for what could have been known to be refused")
        if not any(expected.refused in trouble for trouble in deployment.troubles):
            verdict.stuck.append(f"no error of {deployment.name} says {expected.refused!r}")
        return
    wanted: dict[str, Any] = {**expected.foreign, **asked}
    try:
        held = _snapshot(deployment, spec)
        books = deployment.books(spec.name)
    except EmbeddingAssetsError as error:
        verdict.wrong.append(f"{deployment.name}: {error}")
        return
    unbalanced = [cell.day for cell in books if not cell.balanced]
    if unbalanced:
        verdict.wrong.append(f"the books of {', '.join(unbalanced)} are not balanced")
    rejected = {one.name: one.reason for cell in books for one in cell.rejections}
    pending = sum(cell.pending for cell in books)
    paid = Counter(p.custom_id for p in service.paid if p.delivered and p.who in (deployment.name, "other"))
    for record_id, (document, embedding) in held.items():
        if record_id not in wanted and record_id not in expected.maybe:
            verdict.wrong.append(f"{record_id} is in the snapshot, which nobody asked for there")
        elif record_id in expected.rejected:
            verdict.wrong.append(f"{record_id} is in the snapshot, though it is ambiguous or of no use")
        elif record_id in wanted:
            text = wanted[record_id]
            if isinstance(text, str) and document != text:
                verdict.wrong.append(f"{record_id} has the text {document!r}, not {text!r}")
            if not np.allclose(embedding, vector(text, spec.dimensions), atol=1e-5):
                verdict.wrong.append(f"{record_id} has the vector of another text")
    named = _named(deployment, spec)
    for record_id in wanted:
        if record_id in held or record_id in expected.pending or record_id in expected.rejected:
            continue
        if record_id in expected.maybe and record_id in rejected:
            continue
        why = next((r for name, r in rejected.items() if _is_about(name, record_id)), "")
        if paid[record_id] and not pending:
            verdict.lost.append(f"{record_id} was paid for and is not in the snapshot ({why or 'named nowhere'})")
        elif why:
            verdict.stuck.append(f"{record_id} is given up, though the service behaves by now ({why})")
        elif not pending:
            verdict.lost.append(f"{record_id} is named nowhere")
    for record_id in expected.rejected - set(held):
        if not any(_is_about(name, record_id) for name in rejected) and record_id not in named:
            verdict.lost.append(f"{record_id} is rejected, but not by name")
    if pending > len(expected.pending):
        verdict.stuck.append(f"{pending} records of {deployment.name} are pending, {len(expected.pending)} should be")
    if expected.said and not any(word in named for word in expected.said):
        verdict.stuck.append(f"{deployment.name}: nothing says any of {', '.join(map(repr, expected.said))}")
    _doubled(service, deployment, asked, expected, verdict)


def _doubled(
    service: Service, deployment: Deployment, asked: Mapping[str, str], expected: Expected, verdict: Verdict
) -> None:
    own = [p for p in service.paid if p.who == deployment.name]
    good = Counter((p.custom_id, repr(p.text)) for p in own if p.delivered)
    for (record_id, text), times in good.items():
        if times > 1 + (record_id in expected.bought_again):
            verdict.doubled.append(f"{record_id} was paid for {times} times, and delivered each time")
        if record_id in expected.foreign and expected.foreign[record_id] == text:
            verdict.doubled.append(f"{record_id} of another program was paid for by us")
    of_others = {p.custom_id for p in service.paid if p.who == "other"}
    for record_id in sorted({p.custom_id for p in own} - set(asked)):
        whose = "another program asked for" if record_id in of_others else "nobody asked for"
        verdict.doubled.append(f"{record_id} was paid for by us, which {whose}")
    for (record_id, _), times in Counter((p.custom_id, repr(p.text)) for p in own).items():
        if times > max(expected.attempts, 1 + (record_id in expected.bought_again)):
            verdict.doubled.append(f"{record_id} was paid for {times} times, of {expected.attempts} attempts")


def _snapshot(deployment: Deployment, spec: CollectionSpec) -> dict[str, tuple[str, Any]]:
    """Everything in the current snapshot: id to document and vector."""
    commit = head(deployment.store, spec.name)
    if commit is None or commit.version is None:
        return {}
    held = {}
    with tempfile.TemporaryDirectory(dir=deployment.folder) as folder:
        manifest = load_snapshot(deployment.store, spec.name, commit)
        download_files(deployment.store, manifest, Path(folder))
        for part in manifest.databases:
            for batch in read_records(Path(folder) / part.shard, spec.name):
                rows = zip(batch.ids, batch.documents, batch.embeddings, strict=True)
                held.update({record_id: (document, embedding) for record_id, document, embedding in rows})
    return held


def _is_about(name: str, record_id: str) -> bool:
    return name == record_id or name.startswith((f"{record_id}#", f"{record_id} ", f"{record_id}:"))


def _named(deployment: Deployment, spec: CollectionSpec) -> str:
    """All that checks, books, marks and the status say, as one text."""
    with tempfile.TemporaryDirectory(dir=deployment.folder) as scratch:
        checked = check_collection(deployment.store, spec, "quick", Path(scratch))
    said = [str(row) for row in checked.rows if row.get("verdict") != "valid"]
    said.append(str(collection_status(deployment.store, spec)))
    said += [str(cell.rejections) + str(cell.batches) for cell in deployment.books(spec.name)]
    said += [
        deployment.store.get(item.key).decode(errors="replace")
        for item in deployment.store.walk("_unclaimed")
        if item.key.endswith(".json")
    ]
    return "\n".join([*said, *deployment.remarks])
