"""A studio from settings to a served page, and its end."""

from __future__ import annotations

import logging
import os
import signal

from studio.settings import Settings


def run(settings: Settings) -> None:
    """Serve until interrupted, then end the workers; what they were making is queued again."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    from studio.jobs.in_event import InEventExecutor
    from studio.jobs.local import LocalExecutor
    from studio.page import ui
    from studio.service import open_studio

    studio = open_studio(settings, InEventExecutor if settings.in_event else LocalExecutor)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    studio.executor.start()
    try:
        ui.launch(studio, ui.build(studio))
    finally:
        studio.executor.close()
        studio.store.close()
