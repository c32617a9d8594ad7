"""The sample receipts add up, differ from one another, and are the same at every run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.sandbox.receipt_print import LAYOUTS
from embedding_assets.sandbox.receipt_sale import price_of
from embedding_assets.sandbox.receipts import COUNT, Receipt, make_receipts, write_documents

RECEIPTS = make_receipts()
AMOUNT = re.compile(r"(-?\d+)[.,](\d\d)$")


SHA256 = {
    "lines.jsonl": "73bfaa33fa03baa0f87c3abcda9f1ff18375f304e78f052da1e26a5cced43a75",
    "words.jsonl": "132bb5c505b60e58b4d124e633d775e157e5225e875af2b3c6ec46f19b641992",
}
"""What is written today: the same on every version of Python, until somebody means to change the receipts."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("receipt", RECEIPTS, ids=lambda receipt: f"{receipt.sale.shop.category}-{receipt.sale.number}")
def test_a_receipt_adds_up(receipt: Receipt) -> None:
    sale = receipt.sale
    assert all(
        price_of(entry.product, entry.quantity) == entry.amount for entry in sale.entries if entry.kind == "item"
    )
    assert sale.subtotal == sum(entry.amount for entry in sale.entries)
    added = 0 if sale.shop.tax_included else sum(tax.amount for tax in sale.taxes)
    assert sale.total == sale.subtotal + added
    assert sale.total > 0
    assert sale.change >= 0
    for tax in sale.taxes:
        whole = 10_000 + tax.rate if sale.shop.tax_included else 10_000
        assert abs(tax.amount - tax.base * tax.rate / whole) <= 0.5
        position = sale.shop.rates.index(tax.rate)
        assert tax.base == sum(entry.amount for entry in sale.entries if entry.product.rate == position)


def cents(text: str) -> int:
    match = AMOUNT.search(text)
    assert match is not None, text
    whole, part = match.groups()
    return int(whole + part)


@pytest.mark.parametrize("receipt", RECEIPTS, ids=lambda receipt: f"{receipt.sale.shop.category}-{receipt.sale.number}")
def test_what_is_printed_adds_up_too(receipt: Receipt) -> None:
    rule = re.compile(r"([-=*.])\1+$")
    rules = [row for row, line in enumerate(receipt.printed) if rule.match(line)]
    assert len(rules) == 3
    bought = [line for line in receipt.printed[rules[0] + 1 : rules[1]] if AMOUNT.search(line) and not is_weight(line)]
    foot = receipt.printed[rules[1] + 1 : rules[2]]
    assert cents(foot[0]) == receipt.sale.subtotal == sum(map(cents, bought))


def is_weight(line: str) -> bool:
    """`0.671 kg x 4.39` names a price, not an amount."""
    return re.match(r"\s+\d+[.,]\d{3} (kg|L) x ", line) is not None


def test_there_are_many_and_they_vary() -> None:
    assert len(RECEIPTS) == COUNT >= 60
    sales = [receipt.sale for receipt in RECEIPTS]
    assert len({receipt.printed for receipt in RECEIPTS}) == COUNT
    assert len({sale.shop.category for sale in sales}) >= 8
    assert {sale.shop.currency for sale in sales} == {"USD", "GBP", "EUR", "CAD", "MYR"}
    languages = Counter(sale.shop.language for sale in sales)
    assert set(languages) == {"en", "de", "es", "fr", "ms"}
    assert languages.most_common(1)[0][0] == "en"
    assert {receipt.layout for receipt in RECEIPTS} == set(LAYOUTS)
    assert {entry.kind for sale in sales for entry in sale.entries} == {"item", "discount", "return"}
    assert {sale.payment for sale in sales} == {"cash", "card"}
    assert {sale.loyalty_points is None for sale in sales} == {True, False}
    assert {len(sale.taxes) for sale in sales} >= {1, 2}
    assert 0 < sum(receipt.noisy for receipt in RECEIPTS) < COUNT / 2


def test_noise_changes_words_and_leaves_amounts() -> None:
    for receipt in RECEIPTS:
        printed = " ".join(receipt.printed).split()
        read = [word.text for line in receipt.lines for word in line.words]
        assert (read == printed) is not receipt.noisy
        amounts = [word for word in printed if AMOUNT.fullmatch(word)]
        assert [word for word in read if AMOUNT.fullmatch(word)] == amounts


def test_documents_have_unique_ids_full_metadata_and_boxes_on_the_image(tmp_path: Path) -> None:
    written = write_documents(tmp_path)
    lines, words = documents(written.lines_path), documents(written.words_path)
    assert (written.receipts, written.lines, written.words) == (COUNT, len(lines), len(words))
    assert len({each["id"] for each in lines + words}) == len(lines) + len(words)
    common = {"image_id", "receipt_id", "merchant", "category", "currency", "line_id", "x", "y", "width", "height"}
    for each in lines + words:
        metadata = each["metadata"]
        is_word = "#WORD#" in each["id"]
        assert set(each) == {"id", "text", "metadata"}
        assert each["text"].strip()
        assert set(metadata) == common | ({"word_id"} if is_word else set())
        key = f"IMAGE#{metadata['image_id']}#RECEIPT#{metadata['receipt_id']:05}#LINE#{metadata['line_id']:05}"
        assert each["id"] == key + (f"#WORD#{metadata['word_id']:05}" if is_word else "")
        assert 0 <= metadata["x"] < metadata["x"] + metadata["width"] <= 1
        assert 0 <= metadata["y"] < metadata["y"] + metadata["height"] <= 1
    by_line: dict[str, list[str]] = {}
    for word in words:
        by_line.setdefault(word["id"].split("#WORD#")[0], []).append(word["text"])
    assert {each["id"]: each["text"] for each in lines} == {key: " ".join(each) for key, each in by_line.items()}
    assert {each["metadata"]["receipt_id"] for each in lines} == {1, 2}


def test_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    write_documents(tmp_path / "here")
    for seed in ("1", "2"):
        there = tmp_path / seed
        command = [sys.executable, "-m", "embedding_assets.sandbox.receipts", "--out", str(there)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True)
        for name in ("lines.jsonl", "words.jsonl"):
            assert (there / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
        assert sorted(path.name for path in there.iterdir()) == ["lines.jsonl", "words.jsonl"]


def test_the_same_bytes_on_every_version_of_python(tmp_path: Path) -> None:
    write_documents(tmp_path)
    assert {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in SHA256} == SHA256


def test_more_receipts_leave_the_first_as_they_are() -> None:
    assert make_receipts(COUNT + 8)[:COUNT] == RECEIPTS
