"""The numbers of a version's report, as they are stored: sealed JSON."""

from __future__ import annotations

from embedding_assets.errors import ConfigurationError, CorruptedError, ObjectMissingError
from embedding_assets.insight.statistics import FORMAT, Statistics
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import seal, unseal
from embedding_assets.vectorstore.transfer import at_once

_KIND = "statistics"


def read_statistics(store: ObjectStore, collection: str, version: str) -> Statistics | None:
    """The numbers of a version; None where there are none, or none that can be understood."""
    try:
        return _statistics(store, collection, version)
    except (ObjectMissingError, CorruptedError, ConfigurationError):
        return None


def write_statistics(store: ObjectStore, statistics: Statistics) -> None:
    """Store the numbers of a version, in the place of damaged ones too; sound ones stay, made of the same records."""
    key = key_of(statistics.collection, statistics.version)
    data = seal(_KIND, key, statistics.content())
    try:
        store.put_new(key, data)
    except ObjectExistsError:
        if _flaw(store, statistics.collection, statistics.version):
            store.replace(key, data)


def damaged_reports(store: ObjectStore, collection: str) -> dict[str, str]:
    """The versions whose report's numbers are damaged, and how; the next run makes them again.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    versions = store.folders(layout.report(collection))
    return {
        version: flaw
        for version, flaw in zip(
            versions, at_once(lambda version: _flaw(store, collection, version), versions), strict=True
        )
        if flaw
    }


def key_of(collection: str, version: str) -> str:
    """Where the numbers of a version are stored."""
    return f"{layout.report(collection, version)}/statistics.json"


def _flaw(store: ObjectStore, collection: str, version: str) -> str:
    try:
        _statistics(store, collection, version)
    except CorruptedError as error:
        return error.reason
    except (ObjectMissingError, ConfigurationError):
        pass
    return ""


def _statistics(store: ObjectStore, collection: str, version: str) -> Statistics:
    key = key_of(collection, version)

    def parse(data: bytes) -> Statistics:
        raw = unseal(_KIND, key, data, newest=FORMAT, sealed_since=FORMAT)
        try:
            found = Statistics.of_content(raw)
        except ValueError as error:
            raise CorruptedError(key, str(error), "The next run makes it again.") from error
        if (found.collection, found.version) != (collection, version):
            raise CorruptedError(key, f"it is of {found.collection} {found.version}", "The next run makes it again.")
        return found

    return store.read(key, parse)
