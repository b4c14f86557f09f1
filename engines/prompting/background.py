"""Text that arrives piece by piece from work in another thread, while this one can look up from waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator

HEARTBEAT_S = 0.5

Put = Callable[[str], None]


def pieces(work: Callable[[Put, threading.Event], None], *, awaited: bool) -> Generator[str, None, None]:
    """What `work` puts, in order, and "" whenever nothing came for a while, so that the caller can stop waiting.

    Closing this generator sets the event that `work` was given.

    Args:
        work: (put, stopped) -> None, run in a thread; what it raises is raised here, after all it has put.
        awaited: whether closing waits until `work` has ended, for it uses what the caller gives back afterwards.
    """
    arrived: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        try:
            work(arrived.put, stopped)
        except BaseException as error:
            arrived.put(error)
        else:
            arrived.put(None)

    thread = threading.Thread(target=run, name="answer", daemon=True)
    thread.start()
    try:
        while True:
            try:
                piece = arrived.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                yield ""
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stopped.set()
        if awaited:
            thread.join()
