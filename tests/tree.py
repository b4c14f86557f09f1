"""The tree that docs/architecture.md draws, read as data."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "architecture.md"
_CONTINUED = 10  # columns from which a line goes on with the description above it


def drawn_modules() -> dict[str, bool]:
    """Whole path of every module in the tree -> whether it, or the room it stands in, has a star (needs torch)."""
    tree = DOCUMENT.read_text(encoding="utf-8").split("```")[1]
    found: dict[str, bool] = {}
    rooms: list[tuple[int, str, bool]] = []
    for line in tree.splitlines():
        depth = len(line) - len(line.lstrip())
        room = re.match(r"\s*([\w.]+)/( \*)?(?=\s|$)", line)
        if room or depth < _CONTINUED:
            rooms = [one for one in rooms if one[0] < depth]
        if room:
            rooms.append((depth, room[1], bool(room[2])))
        folder = "/".join(name for _, name, _ in rooms)
        starred = any(star for *_, star in rooms)
        for module, star in re.findall(r"([\w.]+\.py)\b( \*)?", line):
            found[f"{folder}/{module}" if folder else module] = starred or bool(star)
    return found
