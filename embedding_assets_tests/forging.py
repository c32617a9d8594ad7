"""Changes objects in a store so that their own checksums fit, and writes them as earlier versions did."""

from __future__ import annotations

import json
from typing import Any

from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import CHECKSUM, checksum_of, dump


def forge(store: ObjectStore, key: str, /, **changes: Any) -> None:
    """Change fields of a sealed object, and seal it again."""
    content = {**json.loads(store.get(key)), **changes}
    content.pop(CHECKSUM)
    store.replace(key, dump({**content, CHECKSUM: checksum_of(content)}))


def as_before_seals(store: ObjectStore, key: str, /, **changes: Any) -> None:
    """Write an object as the versions did that had no seals; a field that is None is left out."""
    content = {**json.loads(store.get(key)), "format": 1, **changes}
    for name in ("object", "key", CHECKSUM, *(name for name, value in changes.items() if value is None)):
        content.pop(name, None)
    store.replace(key, dump(content))
