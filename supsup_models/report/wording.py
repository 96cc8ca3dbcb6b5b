"""How figures are said on the page: one rule each for fractions, bytes, counts and bits."""

from collections.abc import Callable
from math import isfinite
from typing import Any

Said = Callable[[float], str]
"""How a figure is said."""
SPACE = "\u202f"  # narrow and no-break: between groups of digits, and before units


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.93694 -> "93.69 %"; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}{SPACE}%"


def count(number: int | float) -> str:
    """1234567 -> "1 234 567", with narrow spaces."""
    return f"{number:,.0f}".replace(",", SPACE)


def compact(number: float) -> str:
    """A number of at most four characters or so: 850, 12.5 k, 266 k, 25.6 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.{0 if scaled >= 100 else 1}f}".removesuffix(".0") + SPACE + unit
    return f"{number:g}"


def size(number: int) -> str:
    """Bytes in decimal units: 17920 -> "17.9 kB"."""
    if number < 1000:
        return f"{number}{SPACE}B"
    return compact(number) + "B"


def bits(rate: float | None) -> str:
    """Bits per parameter and task: 0.4843 -> "0.484", 32 -> "32.0"."""
    return "–" if rate is None else f"{rate:.{3 if rate < 10 else 1}f}"


def seconds(number: float) -> str:
    """How long something took: 0.5 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if number < 10:
        return f"{number:.1f}{SPACE}s"
    whole = round(number)
    parts = (whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")
    first = next(at for at, (each, _) in enumerate(parts) if each)
    return " ".join(f"{each}{SPACE}{unit}" for each, unit in parts[first : first + 2] if each)


def plural(number: int, noun: str) -> str:
    """1 task, 2 tasks."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def fraction(value: Any) -> float | None:
    """A value of a file as a fraction; None for anything that is not a number from 0 to 1."""
    number = finite(value)
    return number if number is not None and 0 <= number <= 1 else None


def finite(value: Any) -> float | None:
    """A value of a file as a float; None for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
