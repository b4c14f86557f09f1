"""Downloads of models for the page: one at a time, in a thread of its own, counted, stopped and gone on with."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Literal

from engines.errors import StudioError
from engines.loading.hub import Stopped
from engines.loading.store import Store
from engines.types import EngineSpec, ModelSpec
from studio.jobs.executor import OUR_FAULT

log = logging.getLogger(__name__)

_RATE_S = 5.0  # over which the speed is measured


@dataclass(frozen=True)
class Download:
    """How far a download is.

    Attributes:
        file: "repo/file" that comes now.
        done_bytes: of the whole model, what was there before included.
        rate: bytes a second, of late.
        said: why it failed, "" otherwise.
    """

    engine: str
    model: str
    total_bytes: int
    done_bytes: int = 0
    file: str = ""
    rate: float = 0.0
    state: Literal["running", "done", "failed", "stopped"] = "running"
    said: str = ""

    @property
    def share(self) -> float:
        """How much is there, 0..1."""
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go; None where nobody knows."""
        return max(0, self.total_bytes - self.done_bytes) / self.rate if self.rate > 0 else None


class Downloads:
    """The downloads of one studio. Safe from any thread."""

    def __init__(self, files: Store) -> None:
        self._files = files
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._now: Download | None = None
        self._since, self._came = 0.0, 0

    def current(self) -> Download | None:
        """The download that runs, or how the last one ended; None before the first."""
        with self._changing:
            return self._now

    def start(self, spec: EngineSpec, model: ModelSpec) -> None:
        """Begin to fetch what is missing of a model, and return at once.

        Raises:
            StudioError: another download runs, or there is nothing to fetch.
        """
        with self._changing:
            if self._thread is not None and self._thread.is_alive():
                raise StudioError("Another model is being downloaded:", hint="wait for it, or stop it first.")
            state = self._files.state(spec.name, model)
            if not state.missing:
                raise StudioError(f"{model.title} is installed already.")
            self._now = Download(spec.name, model.name, state.total_bytes, state.found_bytes)
            self._stop.clear()
            self._since, self._came = time.monotonic(), 0
            self._thread = threading.Thread(target=self._run, args=(spec, model), name="download", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the download that runs; what has come is kept for the next try."""
        self._stop.set()

    def wait(self, timeout_s: float) -> None:
        """Until it has ended, or for so long."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, spec: EngineSpec, model: ModelSpec) -> None:
        try:
            for file in self._files.download(spec.name, model, watch=self._watch):
                self._change(file=file)
            self._change(state="done", file="", done_bytes=self._files.state(spec.name, model).total_bytes)
        except Stopped:
            self._change(state="stopped")
        except StudioError as error:
            self._change(state="failed", said=str(error))
        except Exception:
            log.exception("a download of %s/%s", spec.name, model.name)
            self._change(state="failed", said=OUR_FAULT)

    def _watch(self, came: int) -> None:
        if self._stop.is_set():
            raise Stopped
        with self._changing:
            assert self._now is not None
            self._came += came
            passed = time.monotonic() - self._since
            rate = self._now.rate
            if passed >= _RATE_S or not rate:
                rate = self._came / max(passed, 1e-3)
            if passed >= _RATE_S:
                self._since, self._came = time.monotonic(), 0
            self._now = replace(self._now, done_bytes=max(0, self._now.done_bytes + came), rate=rate)

    def _change(self, **changes: object) -> None:
        with self._changing:
            assert self._now is not None
            self._now = replace(self._now, **changes)  # type: ignore[arg-type]
