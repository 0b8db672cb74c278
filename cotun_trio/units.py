"""How durations and sizes are written: ``300ms``, ``5s``, ``1h30m``; ``1.5kB``, ``10MB``.

The grammar of durations is that of Go's ``time.ParseDuration``: a sequence of decimal numbers, each
with a unit, with an optional sign that we do not take, since no duration here can be negative.
"""

import re

from cotun_trio.errors import UsageError

_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
LONGEST = 10 * 365 * 86400.0
"""Ten years, in seconds: more is a slip of the finger, and still a safe number for every clock."""


def parse_duration(text: str) -> float:
    """Return the seconds that `text` stands for.

    Raises `UsageError` for anything but Go's grammar, for negative durations, and for more than
    `LONGEST`.
    """
    if text == "0":  # the one number that needs no unit
        return 0.0
    seconds, end = 0.0, 0
    for term in _TERM.finditer(text):
        if term.start() != end:
            break
        seconds += float(term[1]) * _SECONDS[term[2]]
        end = term.end()
    if not text or end != len(text):
        raise UsageError(
            f"{text!r} is not a duration: write a number and a unit, like 5s, 2m or 1h30m"
        )
    if seconds > LONGEST:
        raise UsageError(f"{text!r} is too long for a duration here (ten years at the most)")
    return seconds


def format_duration(seconds: float) -> str:
    """Return `seconds` as Go would print it, rounded for people.

    Below a second, it has three significant digits; above, it is rounded to milliseconds.

    >>> format_duration(0.00123), format_duration(5), format_duration(5400)
    ('1.23ms', '5s', '1h30m0s')
    """
    seconds = round(seconds, 9)
    if seconds <= 0:
        return "0s"
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        number = float(f"{seconds / size:.3g}")
        if number < 1000:
            return f"{number:g}{unit}"
    # Rounded before it is split, or 119.9999 would come out as 1m60s.
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    shown = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{shown}"
    return f"{minutes}m{shown}" if minutes else shown


def show_bytes(count: int) -> str:
    """Return `count` bytes in decimal units.

    >>> show_bytes(999), show_bytes(1500), show_bytes(10_000_000)
    ('999B', '1.5kB', '10MB')
    """
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(_BYTES) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g}{_BYTES[unit]}"
