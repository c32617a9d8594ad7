"""Which tables and indexes a `chroma.sqlite3` may have: those that chromadb's own migrations create, and nothing else.

A trigger or a view changes what a statement does, and SQLite runs it for whoever opens the file. So the list of what a
file defines, which SQLite only has to read, is compared before any other statement. Definitions of all versions of
chromadb up to 1.5.9 are known, after each of their migrations. A later version may have more tables and indexes where
its list of migrations says so; then the direct readers leave the file to chromadb.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from typing import Any

from embedding_assets.chroma.migrations import has_later

# (type, name): 64 bits of the SHA-256 of each definition that it has had. Versions of SQLite differ in quotes and in
# white space where they write a definition anew, so that neither is looked at.
_DEFINITIONS: dict[tuple[str, str], tuple[str, ...]] = {
    ("index", "embedding_metadata_array_id_key"): ("073ee235ec4e0910",),
    ("index", "embedding_metadata_array_key_float"): ("80817d9cd59e4b15",),
    ("index", "embedding_metadata_array_key_int"): ("ca4c8c69996972a9",),
    ("index", "embedding_metadata_array_key_string"): ("f389ea1ffd1548da",),
    ("index", "embedding_metadata_float_value"): ("7fe2c6a9c2455f0d",),
    ("index", "embedding_metadata_int_value"): ("1ad88b35418e58b2",),
    ("index", "embedding_metadata_string_value"): ("66e1ebdd79e049d2",),
    ("table", "acquire_write"): ("4e8b05fba24a9dfd",),
    ("table", "collection_metadata"): ("fa21c1ba00f4d80f", "55d10e59d7ffdd13"),
    ("table", "collections"): (
        "d4c55f2410313b29",
        "5534da4e7142c71d",
        "36e30ebcb57d743f",
        "8f35eae6de2a9264",
        "5e91f3491171a67a",
        "5ba4a17b6004c651",
    ),
    ("table", "databases"): ("3bb604f37de74bb5",),
    ("table", "embedding_fulltext"): ("aeb10d75faa4b258", "c33f3864a918fc6f"),  # the second: 0.4.0 alone
    ("table", "embedding_fulltext_config"): ("2486e5dc9d3ef1d6",),
    ("table", "embedding_fulltext_content"): ("d4c9059030d3e78b",),
    ("table", "embedding_fulltext_data"): ("836fce2b455524ff",),
    ("table", "embedding_fulltext_docsize"): ("46847941ba492e65",),
    ("table", "embedding_fulltext_idx"): ("0d585d332365fcfe",),
    ("table", "embedding_fulltext_search"): ("8f9d247124b9f3c9",),
    ("table", "embedding_fulltext_search_config"): ("105422424b4e0364",),
    ("table", "embedding_fulltext_search_content"): ("5ebbf5ed052ffdda",),
    ("table", "embedding_fulltext_search_data"): ("411e69a5ea99e4aa",),
    ("table", "embedding_fulltext_search_docsize"): ("2cec57c2b15737cf",),
    ("table", "embedding_fulltext_search_idx"): ("58c0c5afeafd39f1",),
    ("table", "embedding_metadata"): ("3c620c05ad803ded", "71c116b2ab4a0ec5"),
    ("table", "embedding_metadata_array"): ("e1e0d2e3730cf4d8",),
    ("table", "embeddings"): ("3e20ce54debc218f",),
    ("table", "embeddings_queue"): ("07e1e7b0c90aa5db",),
    ("table", "embeddings_queue_config"): ("3e86fbe57ad7f7ff",),
    ("table", "maintenance_log"): ("fb9461c6808cbd8c",),
    ("table", "max_seq_id"): ("683c05fd4ce6300b", "9ba9aacc8cb1d5df"),
    ("table", "migrations"): ("320e32855780bf44",),
    ("table", "segment_metadata"): ("10b544f7d1b090ce", "ba3bd8e29720aa1b"),
    ("table", "segments"): ("de2e1d610cf64e3f", "e46e7d82616538dd", "64d6f07fafef9694"),
    ("table", "tenants"): ("2906627a382a09c9",),
}
_NOT_COMPARED = re.compile("[\"'`\\[\\]\\s]")
# SQLite's own, which no statement can create: indexes of UNIQUE and PRIMARY KEY, and what ANALYZE counts.
_OF_SQLITE = re.compile(r"sqlite_(autoindex_\w+|stat[134]|sequence)")


def strange_object(connection: sqlite3.Connection) -> str:
    """What the file defines and no version of chromadb does, in words; empty if there is nothing of the kind.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    unknown, listed = [], False
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if _is_known(kind, name, sql):
            listed = listed or name == "migrations"
            continue
        if kind not in ("table", "index") or re.match(r"\s*CREATE\s+VIRTUAL", str(sql), re.IGNORECASE):
            return _in_words(kind, name, known=False)
        unknown.append((kind, name))
    # The list of migrations is read only where it is the table that chromadb made.
    if not unknown or (listed and has_later(connection)):
        return ""
    kind, name = unknown[0]
    return _in_words(kind, name, known=(kind, name) in _DEFINITIONS)


def _is_known(kind: Any, name: Any, sql: Any) -> bool:
    if kind in ("table", "index") and _OF_SQLITE.fullmatch(str(name)):
        return True
    return definition_hash(str(sql)) in _DEFINITIONS.get((kind, name), ())


def definition_hash(sql: str) -> str:
    """What a definition is known by."""
    return hashlib.sha256(_NOT_COMPARED.sub("", sql).encode()).hexdigest()[:16]


def _in_words(kind: Any, name: Any, *, known: bool) -> str:
    what = f"the {kind if kind in ('table', 'index', 'trigger', 'view') else 'object'} {str(name)[:80]!r}"
    return (
        f"{what} is defined as by no version of chromadb"
        if known
        else f"it has {what}, which no version of chromadb creates"
    )
