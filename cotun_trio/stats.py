"""Counts and how they are shown."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def show_bytes(count: int) -> str:
    """Return `count` bytes in decimal units.

    >>> show_bytes(999), show_bytes(1500), show_bytes(10_000_000)
    ('999B', '1.5kB', '10MB')
    """
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g}{_UNITS[unit]}"
