"""A clip whose prompts an idle device reads: the text encoder stands there, and only its states travel.

Both run the engine's own recipe. Up to the first network that is no text's they agree on every text that is asked for:
the reader encodes it, unless the maker remembers it. There the reader is done, and free for other work; the maker goes
on alone. A reader that fails takes nothing with it: the maker reads itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from engines.memory.planning import Room
from engines.messages import Membership
from engines.parallel.context import MemberContext
from engines.parallel.group import Group, Parted, joined
from engines.request import Request
from engines.types import Component, Engine

if TYPE_CHECKING:
    from engines.runtime.context import WorkerContext

log = logging.getLogger(__name__)
T = TypeVar("T")

TEXTS = ("text ", "pyramid text ", "read ")
"""How the keys begin under which engines remember what a text encoder said."""


class Read(Exception):
    """All texts are read: the reader's part is over."""


class ReadingContext(MemberContext):
    """The Context of engines/types.py, of the member that makes the clip (rank 0) or the one that reads for it."""

    def __init__(self, inner: WorkerContext, group: Group) -> None:
        super().__init__(inner, group)
        self._reading = True

    def room(self, *, beside: int = 0) -> Room:
        """See Context."""
        return self.inner.room(beside=beside)

    @contextmanager
    def use(self, component: Component, *, working_bytes: int = 0) -> Iterator[Any]:
        """See Context."""
        self._end()
        with self.inner.use(component, working_bytes=working_bytes) as module:
            yield module

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """See Context; a text is read by the other one."""
        if not key.startswith(TEXTS):
            self._end()
        if not self._reading:
            return self.inner.remember(key, compute)
        return self._read_for(key, compute) if self.group.rank else self._have_read(key, compute)

    def _have_read(self, key: str, compute: Callable[[], T]) -> T:
        try:
            known = self.group.same(self.inner.remembers(key))
            made = self.group.same(self.inner.made(key, compute) if known else None, by=0 if known else 1)
            return self.inner.adopt(key, made)
        except Parted:
            log.warning("the other device did not read the prompt: this one does")
            self._reading = False
        return self.inner.remember(key, compute)

    def _read_for(self, key: str, compute: Callable[[], T]) -> T:
        if self.group.same(False):
            return self.inner.adopt(key, self.group.same(None))
        self._reading = False  # while it is computed, networks and other results are used as ever
        made = self.inner.made(key, compute)
        self._reading = True
        return self.inner.adopt(key, self.group.same(made, by=1))

    def _end(self) -> None:
        """From here on nothing is read any more."""
        if self._reading and self.group.rank:
            raise Read
        self._reading = False


@contextmanager
def read_by_another(membership: Membership, context: WorkerContext) -> Iterator[ReadingContext]:
    """The context of a clip whose prompts the other member of the group reads, for the length of the block.

    Raises:
        Parted: the other one did not come.
    """
    with joined(membership, context.device, sharing=False) as group:
        yield ReadingContext(context, group)


def read(membership: Membership, engine: Engine, request: Request, context: WorkerContext) -> None:
    """Read the prompts of a clip that the other member makes. What goes wrong here that one does itself."""
    try:
        with (
            joined(membership, context.device, sharing=False) as group,
            closing(engine.generate(request, ReadingContext(context, group))) as made,
        ):
            for _ in made:
                continue
    except Read:
        return
    except Exception:
        log.warning("the prompt could not be read for another device", exc_info=True)
