"""`open_collection`: count, get and query on the newest committed snapshot, for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embedding_assets.catalog import CollectionSpec, load_catalog
from embedding_assets.errors import ConfigurationError, ObjectMissingError
from embedding_assets.records import BATCH_KEY, DELTA_KEY, SUBMITTED_KEY, Metadata, shard_of
from embedding_assets.settings import Settings, load_settings
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import fetch_current
from embedding_assets.vectorstore.transfer import at_once

if TYPE_CHECKING:
    from embedding_assets.vectorstore.manifest import Manifest

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Record:
    """One record as a reader sees it.

    Attributes:
        id, document: as they were sent.
        metadata: as it was sent, without the reserved keys.
        batch_id, submitted, delta_id: which batch the vector was paid for in, when that was submitted (seconds
            since 1970), and which delta brought it.
        distance: from the query, in the collection's distance; None from `get`.
        embedding: shape (dimensions,), where it was asked for.
    """

    id: str
    document: str
    metadata: Metadata
    batch_id: str
    submitted: int
    delta_id: str
    distance: float | None = None
    embedding: npt.NDArray[np.float32] | None = None


@dataclass
class _Shard:
    """One opened database of a snapshot: which shard it is, and chromadb's client and collection."""

    number: int
    client: Any
    handle: Any


class Collection:
    """A collection's newest committed snapshot, from a verified local copy.

    It stays at the version that it was opened at until `refresh()`. Close it, or use it in a `with` statement. Where
    the snapshot has several shards, all of them are asked, and their answers put together.
    """

    def __init__(
        self, store: ObjectStore, spec: CollectionSpec, settings: Settings, embed: Embed | None = None
    ) -> None:
        self.spec = spec
        self._store = store
        self._settings = settings
        self._embed = embed
        self._shards: list[_Shard] = []
        self._count = 1
        self.manifest: Manifest
        self._open()

    @property
    def version(self) -> str:
        """The snapshot version that is read."""
        return self.manifest.id

    def refresh(self) -> bool:
        """Move on to the newest committed snapshot; True if there was a newer one."""
        before = self.version
        self._open()
        return self.version != before

    def count(self) -> int:
        """How many records there are."""
        return sum(int(shard.handle.count()) for shard in self._opened)

    def get(
        self,
        ids: Sequence[str] | None = None,
        *,
        where: dict[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
        embeddings: bool = False,
    ) -> list[Record]:
        """Records by id or by metadata.

        Args:
            ids: which; all that match otherwise. Ids that are not there are left out.
            where: a ChromaDB metadata filter, such as `{"receipt_id": 7}`.
            limit, offset: a page of them, in an order that stays the same for a version.
            embeddings: whether to return the vectors too.
        """
        include = ["documents", "metadatas", *(["embeddings"] if embeddings else [])]
        found: list[Record] = []
        for shard in self._opened:
            if limit is not None and len(found) >= limit:
                break
            wanted = None if ids is None else [i for i in ids if shard_of(i, self._count) == shard.number]
            if ids is not None and not wanted:
                continue
            if offset and len(self._shards) > 1:
                there = len(shard.handle.get(ids=wanted, where=where, include=[])["ids"])
                if there <= offset:
                    offset -= there
                    continue
            rest = None if limit is None else limit - len(found)
            part = shard.handle.get(ids=wanted, where=where, limit=rest, offset=offset, include=include)
            found += _records(part["ids"], part["documents"], part["metadatas"], None, part.get("embeddings"))
            offset = 0
        return found

    def query(
        self, text: str | None = None, *, embedding: Any = None, n: int = 10, where: dict[str, Any] | None = None
    ) -> list[Record]:
        """The records nearest to a text or a vector, nearest first.

        Args:
            text: embedded with the collection's own model.
            embedding: a vector of shape (dimensions,), instead of a text.
            n: how many.
            where: a ChromaDB metadata filter.

        Raises:
            ApiError, ApiUnavailableError: the text could not be embedded.
            ConfigurationError: neither or both of text and embedding, or a vector of another dimension.
        """
        if (text is None) == (embedding is None):
            raise ConfigurationError("query", "takes either a text or an embedding", "Give one of the two.")
        vector = self._embedder()([text]) if text is not None else np.asarray([embedding], np.float32)
        if vector.shape != (1, self.spec.dimensions):
            raise ConfigurationError(
                f"query of {self.spec.name}",
                f"has {vector.shape[-1]} dimensions, the collection {self.spec.dimensions}",
                f"Embed it with {self.spec.model}.",
            )
        include = ["documents", "metadatas", "distances"]

        def ask(shard: _Shard) -> list[Record]:
            found = shard.handle.query(query_embeddings=vector, n_results=n, where=where, include=include)
            return _records(found["ids"][0], found["documents"][0], found["metadatas"][0], found["distances"][0], None)

        shards = self._opened
        answers = at_once(ask, shards) if len(shards) > 1 else [ask(shards[0])]
        nearest = [record for records in answers for record in records]
        return sorted(nearest, key=lambda record: record.distance or 0.0)[:n]

    def close(self) -> None:
        """Let go of the local copy."""
        from embedding_assets.chroma import api

        for shard in self._shards:
            api.close_client(shard.client)
        self._shards = []

    @property
    def _opened(self) -> list[_Shard]:
        if not self._shards:
            raise ConfigurationError(f"collection {self.spec.name}", "was closed", "Open it again.")
        return self._shards

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        from embedding_assets.chroma import api

        fetched = fetch_current(self._store, self.spec.name, self._settings.cache_folder)
        if fetched is None:
            raise ObjectMissingError(
                f"collection {self.spec.name}", "has no snapshot yet", "Materialize `snapshots` for it first."
            )
        manifest, folder = fetched
        if self._shards and manifest.id == self.version:
            return
        self.close()
        self.manifest, self._count = manifest, len(manifest.parts)
        for number, part in enumerate(manifest.parts):
            if part is not None:
                client = api.client_on(folder / part.shard)
                self._shards.append(_Shard(number, client, None))
                self._shards[-1].handle = client.get_collection(self.spec.name, embedding_function=None)

    def _embedder(self) -> Embed:
        if self._embed is None:
            from embedding_assets.batches.client import EmbeddingApi

            api, spec = EmbeddingApi(self._settings.api), self.spec
            self._embed = lambda texts: api.embed(list(texts), spec.model, spec.dimensions)
        return self._embed


def open_collection(name: str, *, environment: str | None = None, settings: Settings | None = None) -> Collection:
    """Open a collection's newest committed snapshot for reading.

    Args:
        name: a declared collection.
        environment: whose settings to use, as in `load_settings`.
        settings: instead, settings made by the caller.

    Raises:
        ConfigurationError: the settings or the name are wrong.
        ObjectMissingError: there is no snapshot yet.
    """
    settings = settings or load_settings(environment)
    spec = load_catalog(settings.collections_file).get(name)
    return Collection(open_store(settings.store_url, settings.s3, must_exist=True), spec, settings)


def _records(
    ids: list[str], documents: list[str | None], metadatas: list[Any], distances: list[float] | None, embeddings: Any
) -> list[Record]:
    records = []
    for row, record_id in enumerate(ids):
        metadata = dict(metadatas[row] or {})
        batch_id, submitted = str(metadata.pop(BATCH_KEY, "")), int(metadata.pop(SUBMITTED_KEY, 0))
        records.append(
            Record(
                record_id,
                documents[row] or "",
                dict(sorted((k, v) for k, v in metadata.items() if k != DELTA_KEY)),
                batch_id,
                submitted,
                str(metadata.get(DELTA_KEY, "")),
                distances[row] if distances is not None else None,
                embeddings[row] if embeddings is not None else None,
            )
        )
    return records
