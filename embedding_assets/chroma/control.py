"""The control: does chromadb work here at all, with a new database in the same place?

A database is called damaged only if it fails where a new one does not. Whatever else goes wrong (a full disk, a
library that is not made for this processor, descriptors used up) then says nothing about the database.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embedding_assets.chroma import api
from embedding_assets.chroma.spec import DatabaseSpec

_RECORDS = 8


def works(folder: Path) -> bool:
    """Make a small database in a new folder, open it again and read it."""
    spec = DatabaseSpec("control", 4, "cosine")
    api.create(folder, spec)
    ids = [str(i) for i in range(_RECORDS)]
    vectors = np.random.default_rng(1).standard_normal((_RECORDS, spec.dimension)).astype(np.float32)
    with api.opened(folder) as client:
        client.get_collection(spec.collection, embedding_function=None).add(ids=ids, embeddings=vectors, documents=ids)
    api.seal(folder, spec.collection)
    with api.opened(folder) as client:
        handle = client.get_collection(spec.collection, embedding_function=None)
        answer = handle.query(query_embeddings=vectors[:1], n_results=1)
        return bool(handle.count() == _RECORDS and answer["ids"] == [["0"]])
