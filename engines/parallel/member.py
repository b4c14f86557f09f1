"""A member's part of a job: the engine's own recipe, step by step with the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.messages import Membership
from engines.parallel.context import GroupContext
from engines.parallel.group import Group, Parted, joined, noticed
from engines.request import Request
from engines.sampling import guidance
from engines.types import Engine, LatentStep

if TYPE_CHECKING:
    from engines.runtime.context import WorkerContext


class Together:
    """An engine whose every step is made by all members of a group, or by none."""

    def __init__(self, engine: Engine, group: Group) -> None:
        self._engine, self._group = engine, group

    def generate(self, request: Request, context: GroupContext) -> Iterator[Any]:
        """What the engine yields. Closing it parts the group: the others stop before their next step."""
        with (
            noticed(),
            guidance.dealt(self._group if context.split == "guidance" else guidance.ALONE),
            closing(self._engine.generate(request, context)) as made,
        ):
            for item in made:
                yield item
                if isinstance(item, LatentStep):
                    self._group.together()


@dataclass(frozen=True)
class Part:
    """What a member works with: the request is the same for all, its seed drawn."""

    engine: Together
    request: Request
    context: GroupContext


@contextmanager
def part(membership: Membership, engine: Engine, request: Request, context: WorkerContext) -> Iterator[Part]:
    """Join the group of a job and have a part in it, for the length of the block.

    Raises:
        Parted: the others did not come.
    """
    with joined(membership, context.device) as group:
        request = group.same(request)
        shared = GroupContext(context, group, membership.split, membership.devices)
        try:
            yield Part(Together(engine, group), request, shared)
        finally:
            shared.part()


def follow(part: Part) -> None:
    """Make the steps of a member that hands out nothing, until the first member needs it no more."""
    try:
        with closing(part.engine.generate(part.request, part.context)) as made:
            for _ in made:
                continue
    except Parted:  # the first member ended, for its own reasons, which it tells
        return
