"""The waiting clip that is in the form of its tab: a browser remembers which, and Generate saves it in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.jobs.store import Job
from studio.service import Studio

KEY = "editing"
"""Where a browser remembers the clip's id."""
GENERATE, SAVE = "Generate", "Save to the queue"


def edited(studio: Studio, known: Mapping[str, Any]) -> Job | None:
    """The waiting clip that is in the form; None without one, and once it has begun."""
    job = studio.job(str(known.get(KEY) or ""), owner=known["owner"])
    return job if job is not None and job.state == "queued" else None
