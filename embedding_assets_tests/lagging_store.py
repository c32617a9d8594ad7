"""A store whose listings lag: an object is listed some time after it was written, and had by its key at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, StoredObject

LAG = timedelta(hours=1)


class LaggingStore(ObjectStore):
    """Objects under one URL, listed an hour of `layout.now()` after they were written.

    Args:
        store: where they go.
        shared: another process's view of the same store.
    """

    def __init__(self, store: ObjectStore, shared: LaggingStore | None = None) -> None:
        super().__init__(store._backend, store.url)
        self.written: dict[str, datetime] = shared.written if shared else {}

    def _new(self, key: str) -> None:
        if super().size(key) is None:
            self.written[key] = layout.now()

    def _create(self, key: str, data: bytes) -> None:
        self._new(key)
        super()._create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._new(key)
        super().replace(key, data)

    def upload(self, key: str, path: Path) -> None:
        self._new(key)
        super().upload(key, path)

    def copy(self, source: str, target: str) -> None:
        self._new(target)
        super().copy(source, target)

    def _is_listed(self, key: str) -> bool:
        at = self.written.get(key)
        return at is None or layout.now() - at >= LAG

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        for item in super().walk(prefix, after):
            if self._is_listed(item.key):
                yield item

    def folders(self, prefix: str) -> list[str]:
        below = f"{prefix}/" if prefix else ""
        parts = (item.key.removeprefix(below).split("/") for item in self.walk(prefix))
        return sorted({part[0] for part in parts if len(part) > 1})
