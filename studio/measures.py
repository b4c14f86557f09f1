"""Lengths, times and sizes as people read them: each sentence is written here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.wording import gigabytes

# With fields, for the page fills them in anew in the browser while a slider moves.
CLIP_LENGTH = "{frames} frames @ {fps} fps = {seconds} s"
FRAME_SIZE = "{width} × {height}"


def clip_length(frames: int, fps: int) -> str:
    """33, 12 -> "33 frames @ 12 fps = 2.75 s"."""
    return CLIP_LENGTH.format(frames=frames, fps=fps, seconds=clip_seconds(frames, fps))


def clip_seconds(frames: int, fps: int) -> str:
    """33, 12 -> "2.75"."""
    return f"{frames / fps:.2f}"


def frame_size(width: int, height: int) -> str:
    """96, 64 -> "96 × 64"."""
    return FRAME_SIZE.format(width=width, height=height)


def shape(width: int, height: int) -> str:
    """ "wide", "tall" or "square"."""
    return "square" if width == height else "wide" if width > height else "tall"


def file_size(size_bytes: int) -> str:
    """A size that may be small: "740 kB", "12 MB", "5.7 GB"."""
    return f"{size_bytes / 1e3:.0f} kB" if size_bytes < 1e6 else gigabytes(size_bytes)


def clip_count(count: int) -> str:
    """ "1 clip", "1,200 clips"."""
    return "1 clip" if count == 1 else f"{count:,} clips"


def time_span(seconds: float) -> str:
    """A length of time: "8 s", "2 min 5 s", "1 h 3 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def seed(request: Mapping[str, Any]) -> str:
    """ "seed 7", of a request's values."""
    return f"seed {request.get('seed')}"
