"""Sample documents: scanned receipts of our own invention, the same bytes at every run.

`python -m embedding_assets.sandbox.receipts --out FOLDER` writes the lines and the words of all receipts, one document
a line of JSON: `{"id", "text", "metadata"}`.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from embedding_assets.sandbox.receipt_print import LAYOUTS, print_sale
from embedding_assets.sandbox.receipt_sale import Sale, make_sale
from embedding_assets.sandbox.receipt_scan import Box, ScannedLine, scan
from embedding_assets.sandbox.receipt_shops import SHOPS

COUNT = 64
_SEED = 20240301
_WIDTHS = (32, 38, 42)
_NOISE = 0.18
Document = dict[str, Any]


@dataclass(frozen=True)
class Receipt:
    """A receipt on an image; some images show two."""

    image_id: str
    receipt_id: int
    sale: Sale
    layout: str
    noisy: bool
    printed: tuple[str, ...]
    lines: tuple[ScannedLine, ...]


@dataclass(frozen=True)
class Written:
    """What was written."""

    receipts: int
    lines_path: Path
    lines: int
    words_path: Path
    words: int


def make_receipts(count: int = COUNT) -> tuple[Receipt, ...]:
    """The receipts, each drawn from a generator of its own: more of them leave the first as they are."""
    receipts: list[Receipt] = []
    for position in range(count):
        rng = Random(_SEED + position)  # noqa: S311 - samples, no secret
        shared = position % 8 == 7
        image_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        if shared:  # the second receipt of the image before
            image_id = receipts[-1].image_id
        width = rng.choice(_WIDTHS)
        layout = LAYOUTS[(position + position // len(SHOPS)) % len(LAYOUTS)]
        noisy = position % 5 == 2
        sale = make_sale(SHOPS[position % len(SHOPS)], position, rng)
        printed = print_sale(sale, layout, width, rng)
        scanned = scan(printed, width, _frame(position), _NOISE if noisy else 0.0, rng)
        receipts.append(Receipt(image_id, 2 if shared else 1, sale, layout, noisy, tuple(printed), tuple(scanned)))
    return tuple(receipts)


def _frame(position: int) -> Box:
    """Where on its image a receipt lies: in the middle, or two side by side."""
    if position % 8 == 6:
        return Box(0.03, 0.04, 0.44, 0.9)
    if position % 8 == 7:
        return Box(0.53, 0.06, 0.44, 0.9)
    return Box(0.12, 0.05, 0.76, 0.9)


def line_documents(receipts: Iterable[Receipt]) -> Iterator[Document]:
    """A document for each line."""
    for receipt in receipts:
        for line_id, line in enumerate(receipt.lines, start=1):
            yield {
                "id": _line_key(receipt, line_id),
                "text": line.text,
                "metadata": {**_origin(receipt), "line_id": line_id, **_place(line.box)},
            }


def word_documents(receipts: Iterable[Receipt]) -> Iterator[Document]:
    """A document for each word."""
    for receipt in receipts:
        for line_id, line in enumerate(receipt.lines, start=1):
            for word_id, word in enumerate(line.words, start=1):
                yield {
                    "id": f"{_line_key(receipt, line_id)}#WORD#{word_id:05}",
                    "text": word.text,
                    "metadata": {**_origin(receipt), "line_id": line_id, "word_id": word_id, **_place(word.box)},
                }


def _line_key(receipt: Receipt, line_id: int) -> str:
    return f"IMAGE#{receipt.image_id}#RECEIPT#{receipt.receipt_id:05}#LINE#{line_id:05}"


def _origin(receipt: Receipt) -> Document:
    shop = receipt.sale.shop
    return {
        "image_id": receipt.image_id,
        "receipt_id": receipt.receipt_id,
        "merchant": shop.merchant,
        "category": shop.category,
        "currency": shop.currency,
    }


def _place(box: Box) -> Document:
    return {name: round(getattr(box, name), 5) for name in ("x", "y", "width", "height")}


def write_documents(folder: Path, count: int = COUNT) -> Written:
    """Write `lines.jsonl` and `words.jsonl`."""
    receipts = make_receipts(count)
    folder.mkdir(parents=True, exist_ok=True)
    lines_path, words_path = folder / "lines.jsonl", folder / "words.jsonl"
    lines = _write(lines_path, line_documents(receipts))
    words = _write(words_path, word_documents(receipts))
    return Written(len(receipts), lines_path, lines, words_path, words)


def _write(path: Path, documents: Iterable[Document]) -> int:
    draft = path.with_name(path.name + ".unfinished")
    count = 0
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
            count += 1
    draft.replace(path)
    return count


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(
        prog="python -m embedding_assets.sandbox.receipts",
        description="Writes the lines and words of invented receipts as lines.jsonl and words.jsonl.",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many receipts (default {COUNT})")
    asked = parser.parse_args()
    written = write_documents(asked.out, asked.count)
    print(
        f"{written.receipts} receipts: {written.lines} lines in {written.lines_path}, {written.words} words in "
        f"{written.words_path}"
    )


if __name__ == "__main__":
    main()
