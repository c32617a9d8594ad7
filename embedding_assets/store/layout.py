"""Names of objects, in one place; and ids that are unique and sort by the time they were made.

{collection}/requests/{day}/{request_id}/request.json        the intent, written before anything is sent
{collection}/requests/{day}/{request_id}/documents.parquet   ids, texts, metadata
{collection}/requests/{day}/{request_id}/batch.json          the batch that was created for it
{collection}/requests/{day}/{request_id}/given-up.json       that nobody waits for it any more
{collection}/results/{day}/{batch}/{landing_id}/...          what came back, parsed; manifest.json last
{collection}/delta/{day}/{delta_id}/...                      ChromaDB files; manifest.json last
{collection}/waiting/{day}/{delta_id}                        empty: a delta that no snapshot holds yet
{collection}/snapshot/timestamped/{version}/...              ChromaDB files; manifest.json last
{collection}/snapshot/timestamped/{version}/{shard}/...      the same, where the collection has several shards
{collection}/snapshot/log/{generation}.json                  the commits
{collection}/snapshot/latest-pointer.txt                     the current version's id
{collection}/snapshot/report/{version}/...                   its numbers, pictures and page; statistics.json last
{collection}/quarantine/{kind}/{name}/...                    what was found corrupted; report.json last
_store.json                                                  what tells this store from others
_store/{id}.json                                             its copy
_alerts/{scope}/outbox/{id}.json                             what is to be told, of one set of collections
_alerts/{scope}/channels/{channel}/{number}.claim.json       a delivery that was begun; {number}.end.json: how it ended
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import date, datetime, timedelta, timezone

MANIFEST = "manifest.json"
REQUEST = "request.json"
BATCH = "batch.json"
GIVEN_UP = "given-up.json"
BATCH_NOTE = re.compile(r"(awaited|late-[0-9a-f]{16}|newer-\d{4})\.json")  # in a batch's folder of results
REPORT = "report.json"
IDENTITY = "_store.json"

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}")
_STAMP = "%Y%m%dT%H%M%S%f"
_ID = re.compile(r"(\d{8}T\d{12})-[0-9a-f]{8}")
_VERSION = re.compile(r"(\d{10})-(\d{8}T\d{12}-[0-9a-f]{8})")
_LONGEST_PATH = 1024  # bytes: S3's limit of a key


def now() -> datetime:
    """The time in UTC; every time in the store is."""
    return datetime.now(timezone.utc)


def new_id(at: datetime | None = None) -> str:
    """A unique id that sorts by time: `20261124T023128123456-1f0c9a2b`."""
    return f"{(at or now()).strftime(_STAMP)}-{secrets.token_hex(4)}"


def time_of(made_id: str) -> datetime | None:
    """When an id of `new_id` was made; None for any other text."""
    match = _ID.fullmatch(made_id)
    try:
        return datetime.strptime(match.group(1), _STAMP).replace(tzinfo=timezone.utc) if match else None
    except ValueError:  # a month 13, say: some other program's name
        return None


def new_version(generation: int) -> str:
    """A unique snapshot version that begins with its generation, so that the pointer alone leads to the log's head."""
    return f"{generation:010d}-{new_id()}"


def generation_of(version: str) -> int | None:
    """The generation of a version; None where the text is no version, as in a pointer of older writers."""
    match = _VERSION.fullmatch(version.strip())
    return int(match.group(1)) if match and time_of(match.group(2)) else None


def day_of(timestamp: float) -> str:
    """The UTC day of a time in seconds since 1970, as YYYY-MM-DD."""
    return datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%d")


def minute_of(timestamp: float) -> str:
    """A time in seconds since 1970 as 2026-03-04T12:00Z, for people; a dash where it is none, as milliseconds."""
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        return "-"


def days_between(first: date, last: date) -> list[str]:
    """All days from first to last, both included, as YYYY-MM-DD."""
    return [str(first + timedelta(days=i)) for i in range((last - first).days + 1)]


def part(name: str) -> str:
    """A foreign name (a batch id of some server) as one part of a key; odd ones are named by their hash."""
    return name if _PLAIN.fullmatch(name) else "x-" + hashlib.sha256(name.encode()).hexdigest()[:32]


def is_path(path: str) -> bool:
    """Whether a text can be the path of a file below a folder of the store, and of nothing outside it."""
    parts = path.split("/")
    return path.isprintable() and 0 < len(path.encode()) <= _LONGEST_PATH and not {"", ".", ".."} & set(parts)


def is_name(name: str) -> bool:
    """Whether a text can be one part of a key."""
    return is_path(name) and "/" not in name


def require_names(*names: str | None) -> None:
    """ValueError where one of these, unless it is None, cannot be one part of a key."""
    for name in names:
        if name is not None and not is_name(name):
            raise ValueError(f"{name[:80]!r} cannot be part of a key")


def is_within(folder: str, key: str) -> bool:
    """Whether a text that an object says is a folder's key, or that of something below it."""
    parts = key.split("/")
    return (key == folder or key.startswith(f"{folder}/")) and "\0" not in key and not {"", ".", ".."} & set(parts)


def requests(collection: str, day: str | None = None, request_id: str | None = None) -> str:
    """Folder of what was sent: of a collection, a cell, or one request."""
    return "/".join(p for p in (collection, "requests", day, request_id) if p)


def asked(collection: str, day: str | None = None, number: int | None = None) -> str:
    """Folder of the log of what was asked: of a collection, or a cell; or the key of an entry."""
    return "/".join(p for p in (collection, "asked", day, f"{number:06d}.json" if number else "") if p)


def asked_batch(collection: str, day: str, number: int) -> str:
    """Key of the copy of the record of a request's batch, beside the request's entry in the log."""
    return f"{asked(collection, day)}/{number:06d}-batch.json"


def results(collection: str, day: str | None = None, batch_id: str | None = None, landing_id: str | None = None) -> str:
    """Folder of what came back: of a collection, a cell, a batch, or one landing of it."""
    return "/".join(p for p in (collection, "results", day, part(batch_id) if batch_id else None, landing_id) if p)


def deltas(collection: str, day: str | None = None, delta_id: str | None = None) -> str:
    """Folder of deltas: of a collection, a cell, or one delta."""
    return "/".join(p for p in (collection, "delta", day, delta_id) if p)


def waiting(collection: str, day: str | None = None, delta_id: str | None = None) -> str:
    """Folder of the marks of deltas that no snapshot holds yet, or the key of one."""
    return "/".join(p for p in (collection, "waiting", day, delta_id) if p)


def snapshots(collection: str, version: str | None = None, shard: str | None = None) -> str:
    """Folder of snapshot versions, of one version, or of one shard of it."""
    return "/".join(p for p in (collection, "snapshot/timestamped", version, shard) if p)


def shard_name(shard: int, shards: int) -> str:
    """What a shard's folder is called; empty where there is but one, which has the version's own folder."""
    return f"shard-{shard:03d}-of-{shards:03d}" if shards > 1 else ""


def commit_log(collection: str, generation: int | None = None) -> str:
    """Folder of the commits, or one commit's key."""
    folder = f"{collection}/snapshot/log"
    return folder if generation is None else f"{folder}/{generation:010d}.json"


def pointer(collection: str) -> str:
    """Key of the pointer."""
    return f"{collection}/snapshot/latest-pointer.txt"


def report(collection: str, version: str | None = None) -> str:
    """Folder of the reports, or of a snapshot's."""
    return "/".join(p for p in (collection, "snapshot/report", version) if p)


def identity_copies(store_id: str | None = None) -> str:
    """Folder of the copy of the store's identity, or its key."""
    return f"_store/{store_id}.json" if store_id else "_store"


def legacy_name(folder: str) -> str:
    """A name for a folder of legacy data, unique by its whole key prefix."""
    return f"{part(folder.rsplit('/', 1)[-1])}-{hashlib.sha256(folder.encode()).hexdigest()[:12]}"


def quarantine(collection: str, kind: str | None = None, name: str | None = None) -> str:
    """Folder of quarantined objects: of a collection, of one kind (`delta`, `snapshot`), or of one of them."""
    return "/".join(p for p in (collection, "quarantine", kind, name) if p)


def alerts(scope: str | None = None, *parts: str) -> str:
    """Folder of the alerts: of all, of one set of collections, or of a part of them. No collection has that name."""
    return "/".join(("_alerts", *((part(scope),) if scope else ()), *parts))
