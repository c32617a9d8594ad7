"""A reader's view of a database, from a process that may die of it: `python benchmarks/reader_view.py` is the child.

Imports chromadb once and forks for every request. Three questions: does it open, and how many records does it count
(`count`, the naive check); hashes of the ids and documents, and of everything that a reader can get, searches
included (`view`); and the records themselves, with those that are not found by their own vector (`records`).
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_SECONDS = 20
_SEARCHED = 100
_SAME = 1e-4


class ReaderView:
    """The child; one request at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def ask(self, question: str, folder: Path) -> Any:
        """The answer; None where the database does not open, or the process died or hung."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([question, str(folder)]).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the child."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def _answer(question: str, folder: str) -> Any:
    import chromadb

    client = chromadb.PersistentClient(folder, settings=chromadb.Settings(anonymized_telemetry=False))
    [collection] = client.list_collections()
    handle = client.get_collection(collection.name, embedding_function=None)
    if question == "count":
        return handle.count()
    got = handle.get(include=["embeddings", "documents", "metadatas"])
    if question == "records":
        found = handle.query(query_embeddings=got["embeddings"], n_results=1, include=["distances"])
        hidden = [i for i, far in zip(got["ids"], found["distances"], strict=True) if not far or far[0] > _SAME]
        rows = zip(got["ids"], got["documents"], got["embeddings"], strict=True)
        return {"hidden": hidden, "records": {i: [text, made.astype("<f4").tobytes().hex()] for i, text, made in rows}}
    hasher = hashlib.sha256(repr((handle.count(), got["ids"], got["documents"])).encode())
    texts = hasher.hexdigest()
    hasher.update(repr([sorted((m or {}).items()) for m in got["metadatas"]]).encode())
    hasher.update(got["embeddings"].tobytes())
    if got["ids"]:
        step = max(1, len(got["ids"]) // _SEARCHED)
        found = handle.query(query_embeddings=got["embeddings"][::step], n_results=5, include=["distances"])
        hasher.update(repr((found["ids"], found["distances"])).encode())
    return [texts, hasher.hexdigest()]


def main() -> None:
    """Answer the requests on standard input."""
    import chromadb.api.rust  # noqa: F401  (before any fork: it takes a second)

    for line in sys.stdin:
        question, folder = json.loads(line)
        receive, send = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(_SECONDS)
            resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.close(receive)
            try:
                os.write(send, json.dumps(_answer(question, folder)).encode())
            finally:
                os._exit(0)
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(pid, 0)
        print(answer.decode() or "null", flush=True)


if __name__ == "__main__":
    main()
