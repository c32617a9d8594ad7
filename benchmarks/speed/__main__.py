"""Measure, print the table, and write it to a file.

    python -m benchmarks.speed [--quick] [--rows delta,parse] [--output FILE]

Each figure is the median of several pairs, ours and the rival's in turn, each in a fresh process; what is prepared
for them (and, for the rivals, imports and reading of what they start from) is not counted. Needs 15 GB of disk, and
for the rows against raw hnswlib that package, which is compiled when it is installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.speed.rows import FULL, QUICK, ROWS
from benchmarks.speed.table import Row, as_markdown


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, each once: five minutes")
    parser.add_argument("--rows", default=",".join(ROWS), help="which: %(default)s")
    parser.add_argument("--output", type=Path, help="a Markdown file to write the table to")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    began = time.monotonic()
    rows: list[Row] = []
    for name in arguments.rows.split(","):
        with tempfile.TemporaryDirectory(prefix=f"speed-{name}-") as folder:
            for row in ROWS[name](sizes, Path(folder)):
                rows.append(row)
                print(
                    f"{time.monotonic() - began:6.0f} s  {' | '.join(cell for cell in row.cells() if cell)}", flush=True
                )
    title = (
        f"Speed at {sizes.dimension:,} dimensions{', quick' if arguments.quick else ''}: {time.strftime('%Y-%m-%d')}"
    )
    table = as_markdown(rows, title)
    print(f"\n{table}")
    if arguments.output:
        arguments.output.write_text(table)


if __name__ == "__main__":
    main()
