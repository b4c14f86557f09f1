"""How values are written into sentences for people: never endless, never unprintable."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

LONGEST = 60


def printable(text: str, *, longest: int = LONGEST) -> str:
    """`text` on one line, its middle left out where it is longer than `longest`, odd characters shown as "?"."""
    if len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def number(value: float) -> str:
    """12345 -> "12,345", 7.5 -> "7.5", 10**5000 -> "about 10^5000"."""
    if isinstance(value, int):
        # Python refuses to write out integers of thousands of digits.
        digits = round(abs(value).bit_length() * math.log10(2))
        return f"{value:,}" if digits <= 15 else f"about {'-' if value < 0 else ''}10^{digits}"
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:g}"


def gpu_memory(size_bytes: float) -> str:
    """Memory of a GPU as its maker writes it: "8 GB"."""
    return f"{size_bytes / 2**30:.0f} GB"


def gigabytes(size_bytes: float) -> str:
    """A size for people: "5.7 GB", "12 MB"."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.0f} MB"


def given(value: object) -> str:
    """A value someone gave us: numbers plain, also those that came as text, other texts in quotes."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        if re.fullmatch(r"-?[0-9]{1,15}", value):
            return number(int(value))
        return f'"{printable(value)}"'
    return f"a {type(value).__name__}"


def either(names: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b or c"."""
    return _joined(names, "or")


def both(names: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return _joined(names, "and")


def some(names: Sequence[str], *, most: int = 4) -> str:
    """The first few of many names, and how many more there are: "a, b and 7 more"."""
    more = len(names) - most
    return ", ".join(map(printable, names[:most])) + (f" and {more} more" if more > 0 else "")


def _joined(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
