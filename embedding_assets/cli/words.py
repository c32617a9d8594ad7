"""Numbers in words."""

from __future__ import annotations

_KIB = 1024


def size_in_words(size: float) -> str:
    """Bytes as `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} TiB"


def age_in_words(seconds: float | None) -> str:
    """Seconds as `5 min`."""
    if seconds is None:
        return "-"
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
