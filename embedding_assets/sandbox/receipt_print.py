"""A sale on paper: lines of text in columns, as a till prints them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from embedding_assets.sandbox.receipt_sale import Entry, Sale

LAYOUTS = ("plain", "quantity_first", "coded", "two_line")

_SYMBOLS = {"USD": "$", "GBP": "£", "EUR": "€", "CAD": "$", "MYR": "RM"}
_COMMA = frozenset({"de", "es", "fr"})
_UNITS = {"piece": "", "kg": "kg", "litre": "L", "night": ""}


@dataclass(frozen=True)
class Labels:
    """The words of a receipt in one language."""

    subtotal: str
    net: str
    total: str
    cash: str
    card: str
    change: str
    discount: str
    refund: str
    points: str
    receipt: str
    date: str
    thanks: tuple[str, ...]


LABELS = {
    "en": Labels(
        "SUBTOTAL", "NET", "TOTAL", "CASH", "CARD ************", "CHANGE", "DISCOUNT", "RETURN", "POINTS EARNED",
        "RECEIPT", "DATE", ("THANK YOU FOR YOUR VISIT", "PLEASE COME AGAIN", "RETURNS WITHIN 30 DAYS WITH RECEIPT"),
    ),
    "de": Labels(
        "Zwischensumme", "Netto", "SUMME", "Bar", "Kartenzahlung girocard ****", "Rückgeld", "Rabatt", "Rückgabe",
        "Treuepunkte", "Beleg-Nr.", "Datum", ("Vielen Dank für Ihren Einkauf!", "Auf Wiedersehen"),
    ),
    "es": Labels(
        "Subtotal", "Base imp.", "TOTAL", "Efectivo", "Tarjeta ****", "Cambio", "Descuento", "Devolución", "Puntos",
        "Factura simplificada", "Fecha", ("¡Gracias por su visita!", "Conserve su ticket"),
    ),
    "fr": Labels(
        "Sous-total", "HT", "TOTAL TTC", "Espèces", "Carte bancaire ****", "Rendu", "Remise", "Retour",
        "Points fidélité", "Ticket", "Date", ("Merci de votre visite", "À bientôt"),
    ),
    "ms": Labels(
        "Jumlah kecil", "Bersih", "JUMLAH", "Tunai", "Kad ****", "Baki", "Diskaun", "Pulangan", "Mata ganjaran",
        "No. resit", "Tarikh", ("Terima kasih, sila datang lagi", "Barang yang dijual tidak boleh ditukar"),
    ),
}  # fmt: skip


def money(cents: int, language: str) -> str:
    """An amount as the language writes it."""
    text = f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02}"
    return text.replace(".", ",") if language in _COMMA else text


def print_sale(sale: Sale, layout: str, width: int, rng: Random) -> list[str]:
    """The lines of the receipt, `width` characters wide."""
    printer = _Printer(sale, layout, width, rng)
    return [*printer.head(), *printer.body(), *printer.foot()]


class _Printer:
    def __init__(self, sale: Sale, layout: str, width: int, rng: Random) -> None:
        self._sale = sale
        self._layout = layout
        self._width = width
        self._rng = rng
        self._language = sale.shop.language
        self._labels = LABELS[self._language]
        self._rule = rng.choice("-=*.") * width

    def head(self) -> list[str]:
        sale = self._sale
        name = sale.shop.merchant.upper() if self._layout in ("plain", "coded") else sale.shop.merchant
        lines = [name.center(self._width), *(line.center(self._width) for line in sale.shop.address)]
        form = {"en": "%m/%d/%Y %I:%M %p" if sale.shop.currency == "USD" else "%d/%m/%Y %H:%M", "de": "%d.%m.%Y %H:%M"}
        at = sale.at.strftime(form.get(self._language, "%d/%m/%Y %H:%M"))
        lines.append(self._sides(f"{self._labels.date}: {at}", ""))
        lines.append(self._sides(f"{self._labels.receipt} {sale.number:05}", f"#{self._rng.randrange(1, 9):02}"))
        return [*lines, self._rule]

    def body(self) -> list[str]:
        return [line for entry in self._sale.entries for line in self._entry(entry)]

    def _entry(self, entry: Entry) -> list[str]:
        amount = money(entry.amount, self._language)
        name = entry.product.name
        if entry.kind == "discount":
            return [self._sides(f"  {self._labels.discount}", amount)]
        if entry.kind == "return":
            return [self._sides(f"{self._labels.refund} {name}", amount)]
        if entry.product.unit in ("kg", "litre"):
            return [self._sides(name, amount), f"   {self._quantity(entry)} x {self._price(entry)}"]
        count = entry.quantity // 1000
        if self._layout == "quantity_first":
            return [self._sides(f"{count} {name}", amount)]
        if self._layout == "two_line" and count > 1:
            return [name, self._sides(f"   {count} x {self._price(entry)}", amount)]
        if self._layout == "coded":
            name = f"{self._rng.randrange(10_000, 99_999)} {name}"
        suffix = f" x{count}" if count > 1 else ""
        return [self._sides(name + suffix, amount)]

    def _quantity(self, entry: Entry) -> str:
        text = f"{entry.quantity // 1000}.{entry.quantity % 1000:03}"
        return (text.replace(".", ",") if self._language in _COMMA else text) + " " + _UNITS[entry.product.unit]

    def _price(self, entry: Entry) -> str:
        mills = entry.product.price
        if mills % 10 == 0:
            return money(mills // 10, self._language)
        text = f"{mills // 1000}.{mills % 1000:03}"
        return text.replace(".", ",") if self._language in _COMMA else text

    def foot(self) -> list[str]:
        sale, labels = self._sale, self._labels
        lines = [self._rule]
        if not sale.shop.tax_included:
            lines.append(self._sides(labels.subtotal, money(sale.subtotal, self._language)))
            lines.extend(self._taxes())
        symbol = _SYMBOLS[sale.shop.currency]
        lines.append(self._sides(f"{labels.total} {symbol}", money(sale.total, self._language)))
        paid = labels.cash if sale.payment == "cash" else f"{labels.card}{self._rng.randrange(10_000):04}"
        lines.append(self._sides(paid, money(sale.tendered, self._language)))
        if sale.payment == "cash":
            lines.append(self._sides(labels.change, money(sale.change, self._language)))
        if sale.shop.tax_included:
            lines.extend(self._taxes())
        if sale.loyalty_points is not None:
            lines.append(self._sides(labels.points, str(sale.loyalty_points)))
        return [*lines, self._rule, self._rng.choice(labels.thanks).center(self._width)]

    def _taxes(self) -> list[str]:
        sale = self._sale
        lines = []
        for tax in sale.taxes:
            percent = f"{tax.rate / 100:g}".replace(".", "," if self._language in _COMMA else ".")
            label = f"{sale.shop.tax_name} {percent}%"
            if sale.shop.tax_included:
                label += f" {self._labels.net} {money(tax.base - tax.amount, self._language)}"
            lines.append(self._sides(label, money(tax.amount, self._language)))
        return lines

    def _sides(self, left: str, right: str) -> str:
        """One text at the left margin and one at the right, at least a blank between them."""
        return left + " " * max(1, self._width - len(left) - len(right)) + right
