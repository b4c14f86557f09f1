"""Reading reference pictures: what can be used, and how it is prepared. Imports no torch."""

from pathlib import Path


def picture_problem(path: Path) -> str | None:
    """Why the picture at `path` cannot be used, in one sentence; None if it can."""
    return None
