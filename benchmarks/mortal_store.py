"""A store whose process dies in the middle of its work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from embedding_assets.store.folder import Stranger
from embedding_assets.store.objects import ObjectStore, StoredObject


class Killed(BaseException):
    """The process is dead; not an Exception, so that nothing takes it for trouble of the store."""


class MortalStore(ObjectStore):
    """Dies before or after its n-th operation; then no operation of it happens any more.

    Args:
        store: where the operations go.
        dies_at: which operation; None: it lives on and only counts.
        after: after it, not before it.
        reads: count the operations that only read as well.
    """

    def __init__(
        self, store: ObjectStore, dies_at: int | None = None, *, after: bool = False, reads: bool = False
    ) -> None:
        super().__init__(store._backend, store.url)
        self.operations = 0
        self.dies_at, self.after, self.reads, self.dead = dies_at, after, reads, False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _operation(self, writes: bool) -> Iterator[None]:
        number = -1
        with self._lock:
            if writes or self.reads:
                number = self.operations
                self.operations += 1
            if self.dead or (number == self.dies_at and not self.after):
                self.dead = True
                raise Killed
        yield
        if number == self.dies_at:
            self.dead = True
        if self.dead:
            raise Killed

    def put_new(self, key: str, data: bytes) -> None:
        with self._operation(True):
            super().put_new(key, data)

    def replace(self, key: str, data: bytes) -> None:
        with self._operation(True):
            super().replace(key, data)

    def upload(self, key: str, path: Path) -> None:
        with self._operation(True):
            super().upload(key, path)

    def copy(self, source: str, target: str) -> None:
        with self._operation(True):
            super().copy(source, target)

    def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):  # one by one: a process can die between two of them
            with self._operation(True):
                super().delete([key])

    def get(self, key: str) -> bytes:
        with self._operation(False):
            return super().get(key)

    def size(self, key: str) -> int | None:
        with self._operation(False):
            return super().size(key)

    def on_disk(self, key: str) -> None:
        """Nothing of it can be had but through the store."""

    def download(self, key: str, path: Path) -> str:
        with self._operation(False):
            return super().download(key, path)

    def sha256(self, key: str) -> tuple[int, str]:
        with self._operation(False):
            return super().sha256(key)

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        with self._operation(False):
            found = list(super().walk(prefix, after))
        yield from found

    def folders(self, prefix: str) -> list[str]:
        with self._operation(False):
            return super().folders(prefix)

    def strangers(self, prefix: str) -> list[Stranger]:
        with self._operation(False):
            return super().strangers(prefix)


_VERBS = {name for name, verb in vars(ObjectStore).items() if callable(verb) and not name.startswith("_")}
# These are made of the others.
assert _VERBS - {"check_writable", "exists", "read"} <= set(vars(MortalStore)), "a verb that nobody dies of"
