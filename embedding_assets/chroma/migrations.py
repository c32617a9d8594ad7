"""Which chromadb made the tables of a database, told from its list of migrations.

ChromaDB numbers its migrations, never changes one that was released, and writes down in the database which it has
applied. So a database with exactly ours must open; one with others may be whole and yet be refused by our version.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

# (folder, version): (file, MD5) of every migration of chromadb 1.5.9.
_OURS = {
    ("embeddings_queue", 1): ("00001-embeddings.sqlite.sql", "d3755dfd232be8e8301f4d7fcfb3a486"),
    ("embeddings_queue", 2): ("00002-embeddings-queue-config.sqlite.sql", "8fbfe4ffb3e57f1d8bfdc58510a82e85"),
    ("metadb", 1): ("00001-embedding-metadata.sqlite.sql", "2b4cf52c4bb2676e21d6860a4409f856"),
    ("metadb", 2): ("00002-embedding-metadata.sqlite.sql", "12a570f7121b3a8ce750a2a7c36da20f"),
    ("metadb", 3): ("00003-full-text-tokenize.sqlite.sql", "f97ad6334aeaa8f419f01110b648b97a"),
    ("metadb", 4): ("00004-metadata-indices.sqlite.sql", "fb36603a45ee2cd0254cef3ef86585e8"),
    ("metadb", 5): ("00005-max-seq-id-int.sqlite.sql", "0e9de46758761b373ce682925edcc326"),
    ("metadb", 6): ("00006-metadata-array-support.sqlite.sql", "e026f01ea92c1baa1493f4ad5ca7cfe7"),
    ("sysdb", 1): ("00001-collections.sqlite.sql", "38352d725ad1c16074fac420b22b4633"),
    ("sysdb", 2): ("00002-segments.sqlite.sql", "2913cb6a503055a95f625448037e8912"),
    ("sysdb", 3): ("00003-collection-dimension.sqlite.sql", "42d22d0574d31d419c2a0e7f625c93aa"),
    ("sysdb", 4): ("00004-tenants-databases.sqlite.sql", "048867ce8fcdefe4023c7110e4433591"),
    ("sysdb", 5): ("00005-remove-topic.sqlite.sql", "b1367c826b8fba5f96f27befdc1d42d2"),
    ("sysdb", 6): ("00006-collection-segment-metadata.sqlite.sql", "4eea7468935bf25d4604a0fed2366116"),
    ("sysdb", 7): ("00007-collection-config.sqlite.sql", "1c7e63bba346a42a18b6ab7f1c989bed"),
    ("sysdb", 8): ("00008-maintenance-log.sqlite.sql", "0a0e7e93111a01789addf64961c6127c"),
    ("sysdb", 9): ("00009-segment-collection-not-null.sqlite.sql", "054355aef9e63702bf54ea29e61563f1"),
    ("sysdb", 10): ("00010-collection-schema.sqlite.sql", "5c3a5ac4b79df76799b4721827ed5e1d"),
}
# SHA-256 of the definitions of all tables and indexes, as these migrations leave them.
_OUR_TABLES = "1bb48c2c7da35bd32000b220fb256ab58d6070740fc6b0c62b27eb903f30da99"


def are_ours(connection: sqlite3.Connection) -> bool:
    """Whether the migrations that were applied are exactly those of chromadb 1.5.9."""
    try:
        rows = connection.execute("SELECT dir, version, filename, hash FROM migrations").fetchall()
    except sqlite3.Error:
        return False
    return len(rows) == len(_OURS) and all(_is_ours(*row) for row in rows)


def has_later(connection: sqlite3.Connection) -> bool:
    """Whether migrations were applied that chromadb 1.5.9 does not have."""
    rows = connection.execute("SELECT dir, version FROM migrations").fetchall()
    return any(row not in _OURS for row in rows)


def check_migrations(connection: sqlite3.Connection) -> str | None:
    """What is wrong with the list of migrations, where that is certain: the tables are ours and the list is not."""
    return (
        None
        if are_ours(connection) or _tables(connection) != _OUR_TABLES
        else ("its list of migrations is not the one that its tables were made by")
    )


def _is_ours(folder: Any, version: Any, filename: Any, checksum: Any) -> bool:
    ours = _OURS.get((folder, version))
    # chromadb can be told to use SHA-256; then the file's name has to do.
    return ours is not None and ours[0] == filename and (ours[1] == checksum or len(str(checksum)) == 64)


def _tables(connection: sqlite3.Connection) -> str:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    return hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()
