"""Batches for a GPU, which outruns their drawing: those that were seen are shown again while others are drawn."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator

import torch

Batch = dict[str, torch.Tensor]

KEPT, ROOM = 256, 4 * 2**30  # batches, bytes; the oldest goes when another comes
SHOWN = 6.0  # how often a batch is shown before training waits for another


def numbers(step: Callable[[], int], *, turns: int, end: int) -> Iterator[int]:
    """Which batches to draw while training shows some again: none that it has left behind, their stages in turn.

    A curriculum's stages then end when training gets to their end, however seldom a new batch comes.

    Args:
        step: where training is.
        turns: stages that take turns; a part of them left out would be left out every time.
        end: the first number that is not drawn.
    """
    number = step()
    while number < end:
        yield number
        number += 1
        number += max(0, step() - number) // turns * turns


def _size(batch: Batch) -> int:
    return sum(value.nbytes for value in batch.values())


class Replay:
    """An endless iterator over `drawn`, ahead of the training in a thread of its own.

    Every batch is shown once as soon as it is there, later ones in any order. Not exactly repeatable.

    Args:
        drawn: what draws; it is read in the thread.
        device: where the batches are kept.
        shown: how often a batch is shown on average, at most.
        kept, room: how many batches, and bytes of them, can be shown again.
    """

    def __init__(
        self,
        drawn: Iterator[Batch],
        device: torch.device,
        *,
        shown: float = SHOWN,
        kept: int = KEPT,
        room: int = ROOM,
    ) -> None:
        self._drawn, self._device, self._shown, self._room = drawn, device, shown, room
        self._fresh: deque[Batch] = deque()
        self._seen: deque[Batch] = deque(maxlen=kept)
        self._came, self._gone = 0, 0
        self._change = threading.Condition()
        self._error: BaseException | None = None
        self._closed = False
        self._rng = random.Random(0)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Replay:
        return self

    def __next__(self) -> Batch:
        """A new batch, or one that was shown before.

        Raises:
            StopIteration: all are drawn and shown as often as they may be.
        """
        with self._change:
            self._change.wait_for(lambda: self._fresh or self._error or self._gone < self._shown * self._came)
            if self._fresh:
                batch = self._fresh.popleft()
                self._seen.append(batch)
                while len(self._seen) > 1 and sum(map(_size, self._seen)) > self._room:
                    self._seen.popleft()
            elif self._gone < self._shown * self._came:
                batch = self._rng.choice(self._seen)
            else:
                assert self._error is not None
                raise self._error
            self._gone += 1
            self._change.notify_all()
            return batch

    def close(self) -> None:
        """Draw no more."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()

    def _read(self) -> None:
        try:
            for batch in self._drawn:
                here = {name: value.to(self._device) for name, value in batch.items()}
                with self._change:
                    self._fresh.append(here)
                    self._came += 1
                    self._change.notify_all()
                    self._change.wait_for(lambda: self._closed or len(self._fresh) < 4)
                    if self._closed:
                        return
            error: BaseException = StopIteration()
        except BaseException as raised:  # told where the batch is wanted
            error = raised
        with self._change:
            self._error = error
            self._change.notify_all()
