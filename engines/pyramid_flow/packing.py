"""Clips of different resolutions as one sequence: tokens, frame times, and text without its padding's influence.

A network is called with clips [B,C,t,h,w], oldest first; the last one is being made. A token is a 2x2 patch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch.nn.functional import interpolate, pad

from engines.pyramid_flow.attention import Visibility
from engines.pyramid_flow.sizes import PATCH as PATCH

T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """Where a clip's tokens are: `frames` x `rows` x `columns`, its first frame at time `first_frame`."""

    first_frame: int
    frames: int
    rows: int
    columns: int

    @property
    def frame_tokens(self) -> int:
        """Tokens of one frame."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Text:
    """Text for a batch: states [B,L,D], which of them are real, [B,L], and one pooled vector a row, [B,P]."""

    states: torch.Tensor
    mask: torch.Tensor
    pooled: torch.Tensor
    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives for this text, made at the first call with this key, as masks and angles of a stage are."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def __len__(self) -> int:
        return self.states.shape[0]

    @property
    def nbytes(self) -> int:
        """What it takes of memory, without what was made for it."""
        return self.states.nbytes + self.mask.nbytes + self.pooled.nbytes

    def on(self, device: torch.device, dtype: torch.dtype) -> Text:
        """The same on a device, in a precision. Not called `to`: offloading hooks call that of every argument."""
        return Text(self.states.to(device, dtype), self.mask.to(device), self.pooled.to(device, dtype))


def join(texts: Sequence[Text]) -> Text:
    """One batch of the rows of all `texts`, padded to the longest."""
    length = max(text.states.shape[1] for text in texts)
    missing = [length - text.states.shape[1] for text in texts]
    return Text(
        torch.cat([pad(text.states, (0, 0, 0, more)) for text, more in zip(texts, missing, strict=True)]),
        torch.cat([pad(text.mask, (0, more)) for text, more in zip(texts, missing, strict=True)]),
        torch.cat([text.pooled for text in texts]),
    )


def grids(clips: Sequence[torch.Tensor]) -> list[Grid]:
    """The grid of every clip; times run on from clip to clip."""
    found: list[Grid] = []
    for clip in clips:
        frames, height, width = clip.shape[2:]
        first = found[-1].first_frame + found[-1].frames if found else 0
        found.append(Grid(first, frames, height // PATCH, width // PATCH))
    return found


def padding_first(states: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Text states [B,L,D] with real tokens last, cut to the longest row, and each row's count of padding tokens.

    Text has no order for the network beyond what the encoder put into it (every token is at position 0), so its tokens
    may move; at the front, padding is skipped by a slice instead of a mask.
    """
    mask = mask.bool().cpu()
    counts = mask.sum(dim=1)
    longest = int(counts.max())
    order = mask.int().argsort(dim=1, stable=True)[:, mask.shape[1] - longest :].to(states.device)
    moved = states.gather(1, order[..., None].expand(-1, -1, states.shape[2]))
    return moved, tuple(longest - int(count) for count in counts)


def visibility(text_length: int, padding: tuple[int, ...], clips: Sequence[Grid]) -> Visibility:
    """Text and frame 0 see each other; every later frame sees all before it and itself."""
    ends, end = [], text_length
    for grid in clips:
        for _ in range(grid.frames):
            end += grid.frame_tokens
            ends.append(end)
    return Visibility(padding, tuple(ends), text_length)


def frame_times(text_length: int, clips: Sequence[Grid]) -> torch.Tensor:
    """The time of every token of the sequence [L], 0 for text."""
    times = [torch.zeros(text_length)]
    for grid in clips:
        frames = torch.arange(grid.first_frame, grid.first_frame + grid.frames, dtype=torch.float32)
        times.append(frames.repeat_interleave(grid.frame_tokens))
    return torch.cat(times)


def axis_positions(count: int, of: int) -> torch.Tensor:
    """Where `count` tokens of a coarser clip lie on the axis of `of` tokens: 0.5, 2.5, ... at half resolution."""
    axis = torch.arange(of, dtype=torch.float32)
    return axis if count == of else interpolate(axis[None, None], size=count, mode="linear")[0, 0]


def to_patches(clip: torch.Tensor) -> torch.Tensor:
    """[B,C,t,h,w] -> [B,t*rows*columns,4C]; inside a patch row, column, channel, the channel fastest."""
    patches = clip.unflatten(-1, (-1, PATCH)).unflatten(-3, (-1, PATCH))  # [B,C,t,rows,2,columns,2]
    return patches.permute(0, 2, 3, 5, 4, 6, 1).flatten(4).flatten(1, 3)


def from_patches(tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The inverse of `to_patches`."""
    patches = tokens.unflatten(1, (grid.frames, grid.rows, grid.columns)).unflatten(-1, (PATCH, PATCH, -1))
    return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)
