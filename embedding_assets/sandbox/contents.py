"""The contents of files: one file each in a folder, put there whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path


def new_id(prefix: str) -> str:
    """An id as the API forms them: a prefix that says what it is, and a random rest."""
    return prefix + uuid.uuid4().hex


class Contents:
    """Contents are written to `unfinished/` and renamed into `files/`: whatever lies there is complete."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        self._unfinished = folder / "unfinished"
        self._files.mkdir(parents=True, exist_ok=True)
        self._unfinished.mkdir(parents=True, exist_ok=True)

    def path(self, file_id: str) -> Path:
        """Where a file's content lies; ids come from the index, never straight from a request."""
        return self._files / file_id

    def draft(self) -> Path:
        """A new path to write to."""
        return self._unfinished / uuid.uuid4().hex

    def keep(self, draft: Path, file_id: str) -> int:
        """Make a draft the content of a file; answer its size."""
        size = draft.stat().st_size
        draft.replace(self.path(file_id))
        return size

    def discard(self, file_id: str) -> None:
        """Remove a file's content, if it is there."""
        self.path(file_id).unlink(missing_ok=True)

    def sweep(self, known: Iterable[str]) -> None:
        """Remove what a killed service left behind: drafts, and contents that the index never heard of."""
        for draft in self._unfinished.iterdir():
            draft.unlink()
        expected = set(known)
        for path in self._files.iterdir():
            if path.name not in expected:
                path.unlink()
