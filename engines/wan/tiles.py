"""How a picture is cut into strips that are decoded one after another, with margins so wide that no seam can arise.

What a pixel is made of lies within `margin` latent pixels of it, once attention, which sees everything, has been over
the whole picture. A strip with such margins on both sides gives inside of them exactly the pixels of the whole.
Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

COUNTS = (2, 3, 4, 6, 8)


class Strip(NamedTuple):
    """A strip in latent pixels along the picture's longer side: decoded from `begin` to `end`, used from `first` to
    `last`."""

    begin: int
    end: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """How much of the side goes through at once."""
        return self.end - self.begin


def margin(config: Mapping[str, Any]) -> int:
    """Latent pixels that a pixel depends on to each side, by the convolutions after the middle of a Wan decoder."""
    levels = len(config["dim_mult"])
    blocks = 2 * (config["num_res_blocks"] + 1)
    reach = sum(blocks / 2**level + (0.5 / 2**level if level + 1 < levels else 1 / 2**level) for level in range(levels))
    return math.ceil(reach)


def strips(side: int, count: int, *, margin: int) -> list[Strip]:
    """`count` strips of about equal width that cover a side of so many latent pixels."""
    edges = [side * index // count for index in range(count + 1)]
    return [Strip(max(0, first - margin), min(side, last + margin), first, last) for first, last in pairwise(edges)]
