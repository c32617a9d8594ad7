"""Values that several assets say of themselves: rates, data versions, links, previews."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import dagster as dg

from embedding_assets.batches.preview import preview_asked
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.insight.statistics import cut
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.orchestration.tables import table
from embedding_assets.store.objects import ObjectStore

Metadata = dict[str, Any]
_PREVIEW = {"id": "string", "text": "string", "metadata": "string"}
_OPENAI = "api.openai.com"
_LINKED = 50


class Stopwatch:
    """Seconds since it was made, and those that had passed already."""

    def __init__(self, already: float = 0.0) -> None:
        self._began = time.monotonic() - already

    def rates(self, records: int, size: int | None = None) -> Metadata:
        """How long it took, and how much of what was done that is in a second."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        found: Metadata = {"seconds": round(seconds, 3), "records_per_second": round(records / seconds, 1)}
        if size is not None:
            found["bytes_per_second"] = round(size / seconds, 1)
        return found


def data_version(parts: Iterable[str]) -> dg.DataVersion:
    """A version that is the same exactly where all these are, in whatever order."""
    return dg.DataVersion(hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest())


def batch_links(api_url: str, batch_ids: Sequence[str]) -> Metadata:
    """Links to batches in OpenAI's dashboard; other servers have none that we know."""
    if urlsplit(api_url).hostname != _OPENAI or not batch_ids:
        return {}
    links = [f"[{one}](https://platform.openai.com/batches/{quote(one)})" for one in batch_ids[:_LINKED]]
    more = [f"and {len(batch_ids) - _LINKED} more"] if len(batch_ids) > _LINKED else []
    return {"batches_at_openai": dg.MetadataValue.md("\n".join(f"- {line}" for line in (*links, *more)))}


def place(store: StoreResource, key: str) -> dg.MetadataValue[Any]:
    """Where an object or a folder of the store is: a link to the console for S3 at AWS, else a path; never a secret."""
    parts = urlsplit(store.url)
    if parts.scheme == "file":
        return dg.MetadataValue.path(f"{parts.path.rstrip('/')}/{key}")
    own_server = store.s3.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if parts.scheme == "s3" and not own_server:
        whole = f"{parts.path.strip('/')}/{key}".strip("/")
        return dg.MetadataValue.url(f"https://console.aws.amazon.com/s3/object/{parts.netloc}?prefix={quote(whole)}")
    return dg.MetadataValue.path(address(store, key))


def address(store: StoreResource, key: str) -> str:
    """The URL of an object or a folder, as the store's tools take it."""
    return f"{store.url.rstrip('/')}/{key}"


def preview_table(rows: Iterable[tuple[str, str, str]]) -> Metadata:
    """Records as they may be shown: id, text, metadata."""
    found = [dict(zip(_PREVIEW, row, strict=True)) for row in rows]
    return {"preview": table(found, _PREVIEW)} if found else {}


def preview_of_batches(
    store: ObjectStore, spec: CollectionSpec, day: str, batch_ids: Sequence[str], log: Callable[[str], None]
) -> Metadata:
    """The first records that these batches asked for, as far as the collection's `preview` allows."""
    try:
        asked = preview_asked(store, spec, day, batch_ids)
    except EmbeddingAssetsError as error:  # a look that fails harms nothing
        log(f"there is no preview: {error}")
        return {}
    chars = spec.preview.text_chars
    return preview_table(
        (one.id, cut(one.document, chars), cut(", ".join(f"{k}={v}" for k, v in sorted(one.metadata.items())), chars))
        for one in asked
    )
