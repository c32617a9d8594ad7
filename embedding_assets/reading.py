"""`open_collection`: count, get and query on the newest committed snapshot, for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embedding_assets.catalog import CollectionSpec, load_catalog
from embedding_assets.errors import ConfigurationError, ObjectMissingError, UnreadableError
from embedding_assets.records import BATCH_KEY, DELTA_KEY, SUBMITTED_KEY, Metadata, shard_of, slices
from embedding_assets.settings import Settings, load_settings
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import Copy, fetch_current, warn_of_fallback
from embedding_assets.vectorstore.transfer import at_once

if TYPE_CHECKING:
    from embedding_assets.vectorstore.manifest import Manifest

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]

# Records that chromadb is asked for at a time: it names each in one SQL statement, which takes 32,766 values.
_PAGE = 10_000
_NO_END = 2**62


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
        self,
        store: ObjectStore,
        spec: CollectionSpec | str,
        settings: Settings,
        embed: Embed | None = None,
        *,
        checksums: bool = False,
    ) -> None:
        """Open it.

        Args:
            spec: the collection as declared, which its snapshot is held against; or its name alone: then the snapshot
                itself says which model embeds a query.
            checksums: verify the cached files by their checksums, and not by sizes and times alone.

        Raises:
            ConfigurationError: the snapshot is of another model, dimension or distance than declared.
            ObjectMissingError: there is no snapshot yet.
        """
        self.name = spec if isinstance(spec, str) else spec.name
        self._declared = not isinstance(spec, str)
        self._store = store
        self._settings = settings
        self._embed = embed
        self._shards: list[_Shard] = []
        self._copy: Copy | None = None
        self._doubted = checksums
        self._count = 1
        # Why an older snapshot than the current one is read; empty where it is the current one.
        self.fallback = ""
        self.spec: CollectionSpec
        if not isinstance(spec, str):
            self.spec = spec
        self.manifest: Manifest
        self._open()

    @property
    def version(self) -> str:
        """The snapshot version that is read."""
        return self.manifest.id

    def refresh(self) -> bool:
        """Move on to the newest committed snapshot; True if there was a newer one.

        Where chromadb could not answer a question, the files are verified by their checksums and opened again.

        Raises:
            ConfigurationError: that one is of another kind than declared; what was open stays open.
        """
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
            ids: which, however many; all that match otherwise. Ids that are not there are left out.
            where: a ChromaDB metadata filter, such as `{"receipt_id": 7}`.
            limit, offset: a page of them: in the order of `ids`, or in one that stays the same for a version.
            embeddings: whether to return the vectors too.

        Raises:
            ConfigurationError: limit or offset is no such number, or ChromaDB refuses the filter or the ids.
        """
        limit = _NO_END if limit is None else self._require("limit", limit, 0)
        offset = self._require("offset", offset, 0)
        include = ["documents", "metadatas", *(["embeddings"] if embeddings else [])]
        if ids is None:
            return list(islice(self._pages(where, include, limit, offset), limit))
        return list(islice(self._by_id(ids, where, include), offset, offset + limit))

    def _by_id(self, ids: Sequence[str], where: dict[str, Any] | None, include: list[str]) -> Iterator[Record]:
        """The records with these ids, in this order, each once."""
        wanted = list(dict.fromkeys([ids] if isinstance(ids, str) else ids))
        unusable = next((one for one in wanted if not _is_id(one)), None)
        if unusable is not None:
            raise ConfigurationError(
                f"question to {self.name}", f"the id {unusable!r} is no text", "Give texts as ids."
            )
        for part in slices(len(wanted), _PAGE):
            records: dict[str, Record] = {}
            for shard in self._opened:
                own = [i for i in wanted[part] if self._count == 1 or shard_of(i, self._count) == shard.number]
                if own:
                    answer = self._asked(shard.handle.get, ids=own, where=where, include=include)
                    records.update((record.id, record) for record in _records(answer))
            yield from (records[i] for i in wanted[part] if i in records)

    def _pages(self, where: dict[str, Any] | None, include: list[str], limit: int, offset: int) -> Iterator[Record]:
        """The records from an offset on, shard by shard, a page at a time; at least `limit`, if there are so many."""
        for shard in self._opened:
            if offset and len(self._shards) > 1:
                there = len(self._asked(shard.handle.get, where=where, include=[])["ids"])
                if there <= offset:
                    offset -= there
                    continue
            size = min(_PAGE, limit)
            while size:
                answer = self._asked(shard.handle.get, where=where, limit=size, offset=offset, include=include)
                yield from _records(answer)
                offset += size
                if len(answer["ids"]) < size:
                    break
            offset = 0

    def _asked(self, ask: Callable[..., Any], **how: Any) -> Any:
        from embedding_assets.chroma import api

        try:
            with api.questions(self.name):
                return ask(**how)
        except UnreadableError:
            self._doubted = True
            raise

    def _require(self, name: str, number: object, least: int) -> int:
        """A number of records, none so large that a database could not count so far."""
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ConfigurationError(
                f"question to {self.name}", f"its {name} is {number!r}", f"Give a whole number, {least} or more."
            )
        return min(number, _NO_END)

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
            ConfigurationError: neither or both of text and embedding, a vector of another dimension, no number of
                records, or a filter that ChromaDB refuses.
        """
        if (text is None) == (embedding is None):
            raise ConfigurationError("query", "takes either a text or an embedding", "Give one of the two.")
        n = self._require("n", n, 1)
        vector = self._embedder()([text]) if text is not None else np.asarray([embedding], np.float32)
        if vector.shape != (1, self.spec.dimensions):
            raise ConfigurationError(
                f"query of {self.name}",
                f"has {vector.shape[-1]} dimensions, the collection {self.spec.dimensions}",
                f"Embed it with {self.spec.model}.",
            )

        def ask(shard: _Shard) -> list[Record]:
            # More than a page are fetched by their ids, page by page.
            wanted = min(n, int(shard.handle.count()))
            few = wanted <= _PAGE
            include = ["documents", "metadatas", "distances"] if few else ["distances"]
            answer = self._asked(
                shard.handle.query, query_embeddings=vector, n_results=wanted, where=where, include=include
            )
            found = {key: values[0] for key, values in answer.items() if values}
            if few:
                return _records(found)
            records = self._by_id(found["ids"], None, ["documents", "metadatas"])
            return [replace(one, distance=far) for one, far in zip(records, found["distances"], strict=True)]

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
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    @property
    def _opened(self) -> list[_Shard]:
        if not self._shards:
            raise ConfigurationError(f"collection {self.name}", "was closed", "Open it again.")
        return self._shards

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        opened = None if self._doubted else self._copy
        told: list[str] = []
        copy = fetch_current(
            self._store, self.name, self._settings.cache_folder, told.append, opened=opened, checksums=self._doubted
        )
        for said in told:
            warn_of_fallback(said)
        if copy is None:
            raise ObjectMissingError(
                f"collection {self.name}", "has no snapshot yet", "Materialize `snapshots` for it first."
            )
        if copy is self._copy:
            self.fallback = "; ".join(told)
            return
        try:
            spec = self.spec if self._declared else CollectionSpec.model_construct(name=self.name)
            if self._declared:
                spec.require_kind(copy.manifest.vectors, f"its snapshot {copy.manifest.id} holds")
            shards = self._shards_of(copy)
        except BaseException as error:
            copy.close()
            if self._doubted or not isinstance(error, UnreadableError):
                raise
            self._doubted = True
            self._open()
            return
        self.close()
        self.spec = spec if self._declared else spec.of_kind(copy.manifest.vectors)
        self.manifest, self._count = copy.manifest, len(copy.manifest.parts)
        self._copy, self._shards, self._doubted = copy, shards, False
        self.fallback = "; ".join(told)

    def _shards_of(self, copy: Copy) -> list[_Shard]:
        """Open the databases of a copy.

        Raises:
            UnreadableError: chromadb cannot open one.
            LocalDiskError: the disk is full, or this machine refuses something else.
        """
        from embedding_assets.chroma import api

        shards: list[_Shard] = []
        try:
            for number, part in enumerate(copy.manifest.parts):
                if part is not None:
                    shards.append(_Shard(number, api.client_on(copy.folder / part.shard), None))
                    shards[-1].handle = shards[-1].client.get_collection(self.name, embedding_function=None)
        except Exception as error:  # of whatever chromadb raises about files
            for shard in shards:
                api.close_client(shard.client)
            raise copy.cannot_be_opened(error) from error
        return shards

    def _embedder(self) -> Embed:
        if self._embed is None:
            from embedding_assets.batches.client import EmbeddingApi

            api = EmbeddingApi(self._settings.api)
            self._embed = lambda texts: api.embed(
                list(texts), self.spec.model, self.spec.dimensions, self.spec.answers_as
            )
        return self._embed


def open_collection(
    name: str,
    *,
    environment: str | None = None,
    settings: Settings | None = None,
    store: str | None = None,
    checksums: bool = False,
) -> Collection:
    """Open a collection's newest committed snapshot for reading.

    Args:
        name: a declared collection.
        environment: whose settings to use, as in `load_settings`.
        settings: instead, settings made by the caller.
        store: the URL of a store, in the place of the settings' own: then no declaration is read, and the model that
            the snapshot was made with embeds queries.
        checksums: verify the cached files by their checksums, and not by sizes and times alone.

    Raises:
        ConfigurationError: the settings or the name are wrong, or the snapshot is of another model, dimension or
            distance than declared.
        ObjectMissingError: there is no snapshot yet.
    """
    if settings is None:
        environ = {**os.environ, "EMBEDDING_ASSETS_STORE": store} if store else None
        settings = load_settings(environment, environ)
    spec = name if store else load_catalog(settings.collections_file).get(name)
    return Collection(
        open_store(store or settings.store_url, settings.s3, must_exist=True), spec, settings, checksums=checksums
    )


def _records(answer: dict[str, Any]) -> list[Record]:
    """The records of chromadb's answer, with distances and embeddings where it has them."""
    distances, embeddings = answer.get("distances"), answer.get("embeddings")
    records = []
    for row, record_id in enumerate(answer["ids"]):
        metadata = dict(answer["metadatas"][row] or {})
        batch_id, submitted = str(metadata.pop(BATCH_KEY, "")), int(metadata.pop(SUBMITTED_KEY, 0))
        records.append(
            Record(
                record_id,
                answer["documents"][row] or "",
                dict(sorted((k, v) for k, v in metadata.items() if k != DELTA_KEY)),
                batch_id,
                submitted,
                str(metadata.get(DELTA_KEY, "")),
                distances[row] if distances is not None else None,
                embeddings[row] if embeddings is not None else None,
            )
        )
    return records


def _is_id(value: object) -> bool:
    """Whether it is a text that a database could hold."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)
