"""Rows of plain values as Dagster table metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg

MOST_ROWS = 500  # a cell of 459 batches is shown whole; the event log is no place for 50,000 ids

Row = Mapping[str, str | int | float | bool | None]


def table(rows: Sequence[Row], columns: Mapping[str, str]) -> dg.TableMetadataValue:
    """A table of at most MOST_ROWS rows.

    Args:
        rows: by column name.
        columns: name to type (`string`, `int`, `float`, `bool`); also the order.
    """
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _plain(row.get(name)) for name in columns}) for row in rows[:MOST_ROWS]],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )


def rows_table(rows: Sequence[Row]) -> dg.TableMetadataValue:
    """A table with the columns that the rows have, all as text."""
    columns = dict.fromkeys(key for row in rows for key in row)
    texts: list[Row] = [{key: str(row[key]) for key in row if row[key] is not None} for row in rows]
    return table(texts, dict.fromkeys(columns, "string"))


def _plain(value: str | int | float | bool | None) -> str | int | float | bool:
    return "" if value is None else value
