"""How the page binds its own events: not part of the API, not queued, without a spinner."""

from __future__ import annotations

from typing import Any

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
HIDDEN: dict[str, Any] = PRIVATE | {"show_progress": "hidden", "queue": False}
