"""Makes the database of a delta: records of any sources as rows of a log, last submitted wins; no index.

What is written is complete, but nobody has to wait for its index: whoever reads a delta reads it directly, and
chromadb builds what is missing when it opens one. Where the format is not the known one, it is merged like a snapshot.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from embedding_assets.chroma import api
from embedding_assets.chroma.log_writer import write_log
from embedding_assets.chroma.merge import best_among, merge, winning_records
from embedding_assets.chroma.reports import MergeReport
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.sqlite_reader import UnknownFormatError


def write(folder: Path, spec: DatabaseSpec, sources: Sequence[Source]) -> MergeReport:
    """Write the records of these sources into a new database in `folder`; the report says how.

    Args:
        folder: to be made; whatever fails here leaves it to be thrown away.
        spec: what it holds.
        sources: whose records, in any order; of those with one id that of the greatest origin.
    """
    try:
        return _write_log(folder, spec, sources)
    except UnknownFormatError as error:
        shutil.rmtree(folder)
        merged = merge(folder, spec, sources)
        return MergeReport(**{**vars(merged), "engine": "api", "obstacle": f"{error.subject} {error.reason}"})


def _write_log(folder: Path, spec: DatabaseSpec, sources: Sequence[Source]) -> MergeReport:
    api.create(folder, spec)
    winners = {record_id: index for record_id, (_, index) in best_among(spec, sources).items()}
    applied = {source.label: 0 for source in sources}
    written = write_log(folder, spec.collection, winning_records(spec, sources, winners, applied))
    return MergeReport(
        kept=0, replaced=0, added=written, applied=applied, chromadb_version=api.VERSION, engine="direct"
    )
