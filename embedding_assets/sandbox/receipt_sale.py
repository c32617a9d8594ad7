"""What was bought: the numbers of a sample receipt, in whole cents, so that they add up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Literal

from embedding_assets.sandbox.receipt_shops import Product, Shop

_FIRST_DAY = datetime(2024, 3, 1, 8, 0)
_DAYS = 600


@dataclass(frozen=True)
class Entry:
    """One position; `quantity` in thousandths of the unit, `amount` in cents, negative for discounts and returns."""

    kind: Literal["item", "discount", "return"]
    product: Product
    quantity: int
    amount: int


@dataclass(frozen=True)
class Tax:
    """The tax at one rate (hundredths of a percent) on `base` cents of entries."""

    rate: int
    base: int
    amount: int


@dataclass(frozen=True)
class Sale:
    """A purchase; `tendered` is what was handed over, `change` what came back."""

    shop: Shop
    number: int
    at: datetime
    entries: tuple[Entry, ...]
    taxes: tuple[Tax, ...]
    subtotal: int
    total: int
    payment: Literal["cash", "card"]
    tendered: int
    loyalty_points: int | None

    @property
    def change(self) -> int:
        """What came back."""
        return self.tendered - self.total


def make_sale(shop: Shop, position: int, rng: Random) -> Sale:
    """Invent a purchase; the position decides which peculiarities it has, so that all of them occur."""
    entries = _items(shop, rng)
    if position % 3 == 0:
        entries.insert(1, _discount(entries[0], rng))
    if position % 9 == 4:
        entries.append(_returned(shop, entries, rng))
    subtotal = sum(entry.amount for entry in entries)
    taxes = tuple(_taxes(shop, entries))
    total = subtotal if shop.tax_included else subtotal + sum(tax.amount for tax in taxes)
    cash = rng.random() < 0.45
    return Sale(
        shop=shop,
        number=rng.randrange(1000, 99_999),
        at=_FIRST_DAY + timedelta(days=rng.randrange(_DAYS), minutes=rng.randrange(780)),
        entries=tuple(entries),
        taxes=taxes,
        subtotal=subtotal,
        total=total,
        payment="cash" if cash else "card",
        tendered=_handed_over(total, rng) if cash else total,
        loyalty_points=total // 100 if position % 4 == 1 else None,
    )


def price_of(product: Product, quantity: int) -> int:
    """Quantity in thousandths times price in thousandths, in cents, rounded half up."""
    return (product.price * quantity + 5000) // 10_000


def _items(shop: Shop, rng: Random) -> list[Entry]:
    most = min(len(shop.products), 9)
    chosen = rng.sample(shop.products, rng.randrange(3, most + 1))
    measured = [product for product in shop.products if product.unit in ("litre", "night")]
    if measured:  # one tank is filled and one room is taken, and that comes first
        first = rng.choice(measured)
        chosen = [first, *(product for product in chosen if product not in measured)]
    return [
        Entry("item", product, quantity, price_of(product, quantity)) for product, quantity in _measured(chosen, rng)
    ]


def _measured(chosen: list[Product], rng: Random) -> list[tuple[Product, int]]:
    measured = []
    for product in chosen:
        if product.unit == "kg":
            quantity = rng.randrange(220, 1900)
        elif product.unit == "litre":
            quantity = rng.randrange(12_000, 58_000, 10)
        else:
            quantity = 1000 * rng.choice((1, 1, 1, 1, 2, 2, 3, 4))
        measured.append((product, quantity))
    return measured


def _discount(entry: Entry, rng: Random) -> Entry:
    percent = rng.choice((5, 10, 15, 20, 25))
    return Entry("discount", entry.product, 1000, -max(1, entry.amount * percent // 100))


def _returned(shop: Shop, entries: list[Entry], rng: Random) -> Entry:
    """Something cheaper than what is bought, so that the shop is not the one that pays."""
    bought = sum(entry.amount for entry in entries)
    cheap = [each for each in shop.products if each.unit == "piece" and 2 * price_of(each, 1000) < bought]
    product = rng.choice(cheap) if cheap else min(shop.products, key=lambda each: each.price)
    return Entry("return", product, -1000, -price_of(product, 1000))


def _taxes(shop: Shop, entries: list[Entry]) -> list[Tax]:
    taxes = []
    for position, rate in enumerate(shop.rates):
        base = sum(entry.amount for entry in entries if entry.product.rate == position)
        if rate and base:
            amount = _share(base, rate, 10_000 + rate) if shop.tax_included else _share(base, rate, 10_000)
            taxes.append(Tax(rate, base, amount))
    return taxes


def _share(base: int, part: int, whole: int) -> int:
    """`base * part / whole`, rounded half away from zero."""
    share = (2 * abs(base) * part + whole) // (2 * whole)
    return share if base >= 0 else -share


def _handed_over(total: int, rng: Random) -> int:
    note = rng.choice((500, 1000, 2000, 5000))
    return -(-total // note) * note
