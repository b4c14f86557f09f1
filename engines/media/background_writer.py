"""Encoding beside decoding: a video writer in a thread of its own. Imports no torch."""

from __future__ import annotations

import queue
import threading

import numpy as np

from engines.media.video import VideoWriter


class BackgroundWriter:
    """Writes frames while the next ones are decoded; at most a few chunks wait, so memory does not grow with the clip.

    What goes wrong in the thread is raised by the next `write` or by `close`.

    Args:
        ahead: chunks that may wait.
    """

    def __init__(self, writer: VideoWriter, *, ahead: int = 2) -> None:
        self.frame_count = 0
        self._writer = writer
        self._chunks: queue.Queue[np.ndarray | None] = queue.Queue(ahead)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def write(self, pixels: np.ndarray) -> None:
        """Hand over frames, uint8 [T,H,W,3], which nobody may change afterwards; waits while the queue is full."""
        self._raise()
        self._chunks.put(pixels)
        self.frame_count += len(pixels)

    def close(self) -> None:
        """Write what waits and finish the file: see VideoWriter."""
        self._end()
        self._raise()
        self._writer.close()

    def abort(self) -> None:
        """Forget what waits and let go of the file without finishing it; the caller removes it."""
        while self._thread.is_alive():
            try:
                self._chunks.get_nowait()
            except queue.Empty:
                break
        self._end()
        self._writer.abort()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._chunks.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            if self._error is None:
                try:
                    self._writer.write(chunk)
                except Exception as error:
                    self._error = error
