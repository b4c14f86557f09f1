"""Who looks at the page: what their browser remembers, and whose clips they may see."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from studio.service import Studio


def visitor(studio: Studio, browser: Any) -> dict[str, Any]:
    """What this browser remembers, with a name for its owner where strangers share the studio."""
    known = dict(browser) if isinstance(browser, Mapping) else {}
    if not studio.settings.public:
        known["owner"] = ""
    elif not isinstance(known.get("owner"), str) or len(known["owner"]) < 32:
        known["owner"] = secrets.token_hex(16)
    return known
