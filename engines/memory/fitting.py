"""Whether a run fits on a device, asked before it begins. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engines.errors import OutOfMemory
from engines.types import Component, Context, Size
from engines.wording import either, gigabytes


class Use(NamedTuple):
    """A network for a run, and the memory for its activations: what `Context.use` takes."""

    component: Component
    working_bytes: int


def first_that_fits(context: Context, ways: Callable[[Size], Sequence[Use]], size: Size, *, doing: str) -> Use:
    """The first of the ways to make frames of `size` that this device has the memory for, whatever their number.

    Args:
        ways: size -> how it can be done, best first.
        doing: for people: "Decoding".

    Raises:
        OutOfMemory: none fits; the hint names the model's sizes that would.
    """

    def fitting(size: Size) -> Use | None:
        return next((way for way in ways(size) if context.fits(way.component, working_bytes=way.working_bytes)), None)

    if (found := fitting(size)) is not None:
        return found
    needed = min(way.component.size_bytes + way.working_bytes for way in ways(size))
    smaller = [Size(*other) for other in context.model.geometry.sizes if Size(*other).pixels < size.pixels]
    possible = [str(other) for other in smaller if fitting(other) is not None]
    raise OutOfMemory(
        f"{doing} frames of {size} needs {gigabytes(needed)} of memory but only {gigabytes(context.budget_bytes)} may "
        "be used, for a clip of any length.",
        hint=f"Choose {either(possible)}." if possible else "Choose a smaller size, or allow more memory.",
    )
