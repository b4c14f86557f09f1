"""The studio as an API: a handful of typed functions for gradio's Python and JavaScript clients."""

from __future__ import annotations

from studio.service import Studio


def expose(studio: Studio) -> None:
    """Add the functions to the page that is being built."""
