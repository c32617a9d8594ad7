"""What the materializations of a cell's three assets say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from embedding_assets.batches.balance import CellBalance
from embedding_assets.batches.discover import Discovery
from embedding_assets.batches.results import CellResults
from embedding_assets.batches.submit import Submission
from embedding_assets.orchestration.metadata.values import Metadata, address, batch_links
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.cells import CellDeltas
from embedding_assets.store import layout
from embedding_assets.vectorstore.damage import Damage

_NAMED = 20


def say_submitted(sent: Submission, found: Discovery, api_url: str) -> Metadata:
    """Of `embedding_requests`."""
    return {
        "submitted_records": sent.count("submitted", "adopted"),
        "submitted_batches": sum(row.action in ("submitted", "adopted") for row in sent.rows),
        "deferred_records": sent.count("deferred"),
        "known_documents": sent.asked_before,
        "refused_documents": len(sent.refused),
        "found_batches": len(found.claimed),
        "unclaimed_batches": len(found.unclaimed) + found.unclaimed_before,
        "batches_of_other_deployments": found.elsewhere,
        "note": sent.note or "nothing to remark",
        "batches": table(
            [
                {
                    "batch": row.batch_id,
                    "records": row.count,
                    "attempt": row.attempt,
                    "action": row.action,
                    "reason": row.reason,
                }
                for row in sent.rows
            ],
            {"batch": "string", "records": "int", "attempt": "int", "action": "string", "reason": "string"},
        ),
        "refused": table(
            [{"document": refused.name, "reason": refused.reason} for refused in sent.refused],
            {"document": "string", "reason": "string"},
        ),
        **({"not_read": list(sent.passed_over[:_NAMED])} if sent.passed_over else {}),
        **batch_links(api_url, [row.batch_id for row in sent.rows if row.batch_id]),
    }


def say_landed(
    results: CellResults, books: CellBalance, damages: Sequence[Damage], store: StoreResource, api_url: str
) -> Metadata:
    """Of `batch_results`; `books`: what the check of the same cell counts, so that both say the same."""
    landings = results.landings
    new = [row.landing for row in results.batches if row.state == "landed" and row.landing]
    accepted = sum(landing.accepted for landing in landings)
    requested, rejected = books.requested, books.rejected
    return {
        "dagster/row_count": accepted,
        "landed_batches": results.count("landed"),
        "landed_records": sum(landing.accepted for landing in new),
        "landed_bytes": sum(file.size for landing in new for file in landing.files),
        "pending_batches": results.count("pending", "unsent", "trouble"),
        "batches_with_a_delta": results.count("skipped"),
        "set_aside_batches": sum(bool(row.aside) for row in results.batches),
        "quarantined_deltas": len(damages),
        "requested_records": requested,
        "accepted_records": books.accepted,
        "rejected_records": rejected,
        "missing_records": sum(landing.missing for landing in landings),
        "rejected_share": rejected / requested if requested else 0.0,
        "tokens": results.tokens,
        "tokens_per_record": results.tokens / accepted if accepted else 0.0,
        "batches": table(
            [
                {
                    "batch": row.batch_id or row.request_id,
                    "state": row.state,
                    "status": row.status or (row.landing.status if row.landing else ""),
                    "requested": row.requested,
                    "accepted": row.landing.accepted if row.landing else None,
                    "rejected": row.landing.rejected if row.landing else None,
                    "missing": row.landing.missing if row.landing else None,
                    "reason": row.aside or row.reason,
                }
                for row in results.batches
            ],
            {
                "batch": "string",
                "state": "string",
                "status": "string",
                "requested": "int",
                "accepted": "int",
                "rejected": "int",
                "missing": "int",
                "reason": "string",
            },
        ),
        **quarantined(damages, results.collection, store),
        **batch_links(api_url, [row.batch_id for row in results.batches if row.batch_id]),
    }


def say_built(done: CellDeltas) -> Metadata:
    """Of `deltas`."""
    every = [*done.before, *done.built]
    return {
        "dagster/row_count": sum(manifest.count for manifest in every),
        "built_deltas": len(done.built),
        "built_records": sum(manifest.count for manifest in done.built),
        "built_bytes": sum(manifest.size for manifest in done.built),
        "failed_deltas": len(done.failed),
        "damaged_landings": len(done.damaged),
        "set_aside": list(done.aside) or "nothing",
        "set_aside_records": sum(manifest.set_aside for manifest in every),
        "deltas_of_cell": len(every),
        "records_of_cell": sum(manifest.count for manifest in every),
        "bytes_of_cell": sum(manifest.size for manifest in every),
        "deltas": table(
            [
                {
                    "delta": manifest.id,
                    "new": manifest in done.built,
                    "records": manifest.count,
                    "batches": len(manifest.batches),
                    "bytes": manifest.size,
                    "written": manifest.engine,
                    "digest": manifest.digest,
                }
                for manifest in every
            ],
            {
                "delta": "string",
                "new": "bool",
                "records": "int",
                "batches": "int",
                "bytes": "int",
                "written": "string",
                "digest": "string",
            },
        ),
    }


def quarantined(damages: Sequence[Damage], collection: str, store: StoreResource) -> Metadata:
    """What was moved aside, and where to."""
    if not damages:
        return {}
    columns = {"kind": "string", "name": "string", "reason": "string", "moved_to": "string"}
    rows: list[dict[str, Any]] = [
        {
            "kind": one.kind,
            "name": one.name,
            "reason": one.reason,
            "moved_to": address(store, layout.quarantine(collection, one.kind, one.name)),
        }
        for one in damages
    ]
    value: dg.TableMetadataValue = table(rows, columns)
    return {"moved_to_quarantine": value}
