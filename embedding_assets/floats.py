"""Which floats chromadb 1.5.9 gives back as they were: its JSON parser is some units in the last place off."""

from __future__ import annotations

import math

import numpy as np
import orjson

_POWERS = [float(f"1e{n}") for n in range(309)]
_SHORT = 16  # characters: so long a number has at most 15 digits
_EXACT_FROM, _EXACT_TO = 1e-4, 1e15  # between these, 15 digits and one power of ten are exact
_NEIGHBOURS = 16  # units in the last place to either side


def float_as_serde(text: str) -> float:
    """The number as ChromaDB's JSON parser reads it, which is up to some units in the last place off.

    It takes as many digits as fit 64 bits, and then multiplies or divides once by a power of ten.

    Raises:
        ValueError: it is out of range.
    """
    mantissa, _, exponent_text = text.lower().partition("e")
    negative = mantissa.startswith("-")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    exponent = int(exponent_text) if exponent_text else 0
    significand, full = 0, False
    for digits, decimal in ((whole, False), (fraction, True)):
        for i, digit in enumerate(digits):
            if full or significand * 10 + int(digit) >= 1 << 64:
                full = True
                if decimal:
                    break
                exponent += len(digits) - i
                break
            significand = significand * 10 + int(digit)
            exponent -= decimal
    value = float(significand)
    while value and exponent < -308:
        value /= 1e308
        exponent += 308
    if value:
        if exponent > 308:
            raise ValueError("a number is out of range")
        value = value * _POWERS[exponent] if exponent >= 0 else value / _POWERS[-exponent]
    if value == float("inf"):
        raise ValueError("a number is out of range")
    return -value if negative else value


def settled_float(value: float) -> float | None:
    """The number of 15 digits, or the next to it, that ChromaDB gives back as it is; None where there is none.

    Minus zero is zero: SQLite does not tell them apart.
    """
    rounded = float(f"{value:.15g}") + 0.0
    if not math.isfinite(rounded):
        return None
    up = down = rounded
    for _ in range(_NEIGHBOURS):
        for candidate in (up, down):
            if comes_back(candidate):
                return candidate
        up, down = _next(up, math.inf), _next(down, -math.inf)
    return None


def comes_back(value: float) -> bool:
    """Whether ChromaDB's parser gives exactly this number back for the shortest text that stands for it."""
    if not math.isfinite(value):
        return False
    if value == 0 or (len(repr(value)) <= _SHORT and _EXACT_FROM <= abs(value) <= _EXACT_TO):
        return True
    try:
        return float_as_serde(orjson.dumps(value).decode()) == value
    except ValueError:
        return False


def _next(value: float, towards: float) -> float:
    return float(np.nextafter(value, towards))
