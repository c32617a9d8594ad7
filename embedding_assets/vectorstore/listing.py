"""Lists the folder of a database in the store: which of its objects chromadb reads, and which are strangers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embedding_assets.chroma.hnsw_files import HNSW_FILES
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.errors import UnreadableError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, StoredObject
from embedding_assets.vectorstore.manifest import FileEntry
from embedding_assets.vectorstore.transfer import at_once

_INDEX_FILES = {*HNSW_FILES, INDEX_METADATA_FILE}
# What SQLite or chromadb would look at: the database with its journals, and the files of an index.
_READ = re.compile(
    rf"{re.escape(SQLITE_FILE)}(-journal|-wal|-shm)?"
    rf"|[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}/({'|'.join(map(re.escape, sorted(_INDEX_FILES)))})"
)


@dataclass(frozen=True)
class DatabaseFolder:
    """The objects below a folder.

    Attributes:
        prefix: its key prefix.
        files: those that chromadb reads, by path relative to the folder.
        strangers: the keys of all others, but for a manifest.
    """

    prefix: str
    files: dict[str, StoredObject]
    strangers: tuple[str, ...]

    @property
    def remains(self) -> bool:
        """Whether there is a file of an index, the sign of a database even where its SQLite file is gone."""
        return any(path.rpartition("/")[2] in _INDEX_FILES for path in self.files)


def list_database(store: ObjectStore, prefix: str) -> DatabaseFolder:
    """List a folder."""
    files: dict[str, StoredObject] = {}
    strangers = []
    for item in store.walk(prefix):
        path = item.key.removeprefix(prefix + "/")
        if _READ.fullmatch(path):
            files[path] = item
        elif path != layout.MANIFEST:
            strangers.append(item.key)
    return DatabaseFolder(prefix, files, tuple(strangers))


def download_listed(store: ObjectStore, listed: DatabaseFolder, folder: Path) -> tuple[FileEntry, ...]:
    """Download a folder's files; size and SHA-256 of each, as a manifest would name them.

    Raises:
        UnreadableError: what came is not of the size that was listed.
    """

    def fetch(path: str) -> FileEntry:
        digest = store.download(f"{listed.prefix}/{path}", folder / path)
        entry = FileEntry(path, (folder / path).stat().st_size, digest)
        if entry.size != listed.files[path].size:
            raise UnreadableError(
                f"{listed.prefix}/{path}",
                "was not read to its end, or has changed",
                "It is read again by the next run.",
            )
        return entry

    return tuple(at_once(fetch, sorted(listed.files)))
