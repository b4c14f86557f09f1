"""Who looks at the page: what their browser remembers, where they come from, and whose clips they may see."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Mapping
from typing import Any

import gradio as gr

from studio.service import Studio
from studio.settings import Settings

CALLERS = "api:"
"""How owners that are programs begin: no browser can have such a name."""


def visitor(studio: Studio, browser: Any) -> dict[str, Any]:
    """What this browser remembers, with a name for its owner where strangers share the studio."""
    known = dict(browser) if isinstance(browser, Mapping) else {}
    if not studio.settings.public:
        known["owner"] = ""
    elif not isinstance(known.get("owner"), str) or not re.fullmatch(r"[0-9a-f]{32}", known["owner"]):
        known["owner"] = secrets.token_hex(16)
    return known


def caller(studio: Studio, request: gr.Request | None) -> str:
    """The owner of what a program asks for: its connection, on a shared studio."""
    if not studio.settings.public:
        return ""
    return CALLERS + hashlib.sha256(connection(studio.settings, request).encode()).hexdigest()[:32]


def connection(settings: Settings, request: gr.Request | None) -> str:
    """The address a request comes from; "" where there is no request.

    Behind the proxies of a hosting service it is the last public address that they tell: whatever stands before it may
    have been invented by the visitor.
    """
    client = getattr(request, "client", None)
    address = str(client.host) if client is not None else ""
    if settings.hosted and request is not None:
        told = [part.strip() for part in str(request.headers.get("x-forwarded-for", "")).split(",")]
        return next((part for part in reversed(told) if _is_public(part)), address)
    return address


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
