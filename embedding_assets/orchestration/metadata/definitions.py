"""What the definitions of the assets say of themselves: owners, tags, kinds, and the columns of what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.records import BATCH_KEY, DELTA_KEY, SUBMITTED_KEY

_ID = dg.TableColumn("id", "string", "unique within the collection", dg.TableColumnConstraints(nullable=False))
_DOCUMENT = dg.TableColumn("document", "string", "the text that is embedded")
_METADATA = dg.TableColumn("metadata", "json", "scalars by key, as they were sent")
_EMBEDDING = dg.TableColumn("embedding", "float32[dimensions]", "the vector", dg.TableColumnConstraints(nullable=False))
_LINEAGE = [
    dg.TableColumn(BATCH_KEY, "string", "metadata: id of the batch that the vector was paid for in"),
    dg.TableColumn(SUBMITTED_KEY, "int", "metadata: when that was submitted, seconds since 1970"),
    dg.TableColumn(DELTA_KEY, "string", "metadata: id of the delta that brought the record"),
]
_COLUMNS: dict[str, list[dg.TableColumn]] = {
    "embedding_requests": [
        _ID,
        _DOCUMENT,
        _METADATA,
        dg.TableColumn("digest", "binary[32]", "of id, text and metadata: tells a corrected text from the old one"),
    ],
    "batch_results": [_ID, _EMBEDDING, _DOCUMENT, _METADATA],
    "deltas": [_ID, _EMBEDDING, _DOCUMENT, _METADATA, *_LINEAGE],
    "snapshots": [_ID, _EMBEDDING, _DOCUMENT, _METADATA, *_LINEAGE],
}
_STAGES = {"embedding_requests": "ask", "batch_results": "land", "deltas": "build", "snapshots": "compact"}


Decorator = Callable[[Callable[..., Any]], dg.AssetsDefinition]


def asset(catalog: Catalog, names: Names, name: str, *kinds: str, **particular: Any) -> Decorator:
    """`dg.asset` with all that every asset of a set has, and what is particular to this one."""
    made: Decorator = dg.asset(
        key=names.asset(name),
        group_name=names.group,
        kinds=set(kinds),
        owners=list(catalog.owners),
        tags=_tags(name),
        metadata=_metadata(name),
        **particular,
    )
    return made


def graph_asset(
    catalog: Catalog, names: Names, name: str, *kinds: str, graph: dg.GraphDefinition, **particular: Any
) -> dg.AssetsDefinition:
    """The same for an asset that a graph of several steps makes, whose only output it is."""
    return dg.AssetsDefinition.from_graph(
        graph,
        keys_by_output_name={"result": names.asset(name)},
        group_name=names.group,
        owners_by_output_name={"result": list(catalog.owners)},
        tags_by_output_name={"result": {**_tags(name), **{f"dagster/kind/{kind}": "" for kind in kinds}}},
        metadata_by_output_name={"result": _metadata(name)},
        descriptions_by_output_name={"result": graph.description or ""},
        **particular,
    )


def _tags(name: str) -> dict[str, str]:
    return {"embedding_assets/stage": _STAGES[name]}


def _metadata(name: str) -> dict[str, Any]:
    return {"dagster/column_schema": dg.TableSchema(columns=_COLUMNS[name])}
