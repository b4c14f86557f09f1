"""Pixels <-> normalised latents with the causal autoencoder: in pieces over time, in tiles over space.

Pieces give the same numbers as the whole. Tiles do not quite (their seams are blended), so they are cut exactly as
published, and only where a side exceeds TILE.

Source: Pyramid-Flow video_vae/modeling_causal_vae.py (tiled_encode, tiled_decode, chunk_encode, chunk_decode) and
pyramid_dit_for_video_gen_pipeline.py (decode_latent, generate_i2v).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from engines.pyramid_flow.sizes import TILE as TILE
from engines.pyramid_flow.sizes import TIME as TIME
from engines.pyramid_flow.sizes import space
from engines.pyramid_flow.vae import Cache, CausalVideoVAE
from engines.sampling.finite import finite


@dataclass(frozen=True)
class Statistics:
    """(latent - shift) * scale is what the network sees; a video's first frame is normalised as a picture."""

    picture_shift: float
    picture_scale: float
    video_shift: float = -0.2343
    video_scale: float = 1 / 3.0986

    def normalised(self, latents: torch.Tensor, *, start: int = 0) -> torch.Tensor:
        """Latents [B,C,F,h,w] as the encoder gives them -> as the network sees them; the first is frame `start`."""
        shift, scale = self._of(latents, start)
        return (latents - shift) * scale

    def denormalised(self, latents: torch.Tensor, *, start: int = 0) -> torch.Tensor:
        """The inverse of `normalised`."""
        shift, scale = self._of(latents, start)
        return latents / scale + shift

    def _of(self, latents: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = torch.arange(start, start + latents.shape[2], device=latents.device) == 0
        first, later = (self.picture_shift, self.picture_scale), (self.video_shift, self.video_scale)
        return tuple(
            torch.where(picture, latents.new_tensor(a), latents.new_tensor(b)).view(1, 1, -1, 1, 1)
            for a, b in zip(first, later, strict=True)
        )


SD3_STATISTICS = Statistics(0.1490, 1 / 1.8415)
MINIFLUX_STATISTICS = Statistics(-0.04, 1 / 1.8726)


class Moments(NamedTuple):
    """The posterior: mean and log variance [B,C,F,h,w]."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        """mean + deviation * noise."""
        return self.mean + (self.log_variance / 2).exp() * noise.to(self.mean)


@torch.no_grad()
def encode(vae: CausalVideoVAE, video: torch.Tensor, *, tile: int | None = TILE, window: int | None = None) -> Moments:
    """Video [B,3,8n+1,H,W] in [-1,1] -> the posterior of its latents.

    Args:
        tile: side of a tile in pixels; None to take the whole picture at once.
        window: frames of a piece after the first, which has one more; a multiple of 8; None for one piece.
    """
    video = video.to(vae.device, vae.dtype)
    sizes = [video.shape[2]] if window is None else [window + 1] + [window] * (video.shape[2] // window)

    def whole(part: torch.Tensor) -> torch.Tensor:
        cache: Cache = {}
        return torch.cat([vae.encode(piece, cache) for piece in _pieces(part, sizes)], dim=2)

    moments = _tiled(video, whole, tile=tile, grain=space(vae.config)) if tile else whole(video)
    mean, log_variance = finite(moments.float(), role="vae", when="from a picture").chunk(2, dim=1)
    return Moments(mean, log_variance.clamp(-30, 20))


class StreamingDecoder:
    """Decodes a video's latents as they come, in any pieces; holds what the layers must remember in between.

    Args:
        parked: of a picture that is cut into tiles, the memory of those that are not at work waits in RAM.
    """

    def __init__(self, *, tile: int | None = TILE, parked: bool = False) -> None:
        self.tile, self.parked = tile, parked
        self._caches: dict[tuple[int, int], Cache] = {}

    @torch.no_grad()
    def __call__(self, vae: CausalVideoVAE, latents: torch.Tensor) -> torch.Tensor:
        """The next latents [B,C,F,h,w], as the encoder gives them -> their frames [B,3,T,H,W], not clamped."""
        latents = latents.to(vae.device, vae.dtype)
        grain = space(vae.config)
        side = self.tile and self.tile // grain
        if not side or max(latents.shape[-2:]) <= side:
            frames = self._decode(vae, latents, self._caches.setdefault((0, 0), {}))
        else:
            corners = iter(_corners(latents, side))
            frames = _tiled(latents, lambda part: self._tile(vae, part, next(corners)), tile=side, grain=1 / grain)
        return finite(frames.float(), role="vae", when="while decoding")

    def _decode(self, vae: CausalVideoVAE, latents: torch.Tensor, cache: Cache) -> torch.Tensor:
        """One latent frame at a time, which needs the least memory."""
        frames = [vae.decode(latent, cache) for latent in latents.split(1, dim=2)]
        return frames[0] if len(frames) == 1 else torch.cat(frames, dim=2)

    def _tile(self, vae: CausalVideoVAE, latents: torch.Tensor, corner: tuple[int, int]) -> torch.Tensor:
        waiting = self._caches.setdefault(corner, {})
        if not self.parked:
            return self._decode(vae, latents, waiting)
        cache = {layer: kept.to(vae.device, non_blocking=True) for layer, kept in waiting.items()}
        frames = self._decode(vae, latents, cache)
        self._caches[corner] = {layer: _in_ram(kept, waiting.get(layer)) for layer, kept in cache.items()}
        return frames


def _in_ram(kept: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
    """A copy in RAM, in its place of the last time; pinned where the device is a GPU, which need not wait then."""
    if place is None:
        place = torch.empty(kept.shape, dtype=kept.dtype, pin_memory=kept.device.type == "cuda")
    return place.copy_(kept, non_blocking=True)


def to_levels(video: torch.Tensor) -> np.ndarray:
    """Frames [1,3,T,H,W] in about [-1,1] -> uint8 [T,H,W,3]; truncated to whole levels, as published."""
    levels = (127.5 * video[0] + 127.5).clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).cpu().contiguous().numpy()


def _pieces(video: torch.Tensor, sizes: list[int]) -> Iterator[torch.Tensor]:
    begin = 0
    for size in sizes:
        if begin < video.shape[2]:
            yield video[:, :, begin : begin + size]
        begin += size


def _corners(tensor: torch.Tensor, side: int) -> list[tuple[int, int]]:
    """(row, column) of every tile: a tile begins after three quarters of the one before."""
    step = int(side * 0.75)
    return [(row, col) for row in range(0, tensor.shape[-2], step) for col in range(0, tensor.shape[-1], step)]


def _tiled(
    tensor: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor], *, tile: int, grain: float
) -> torch.Tensor:
    """`function` on overlapping tiles of [B,C,T,H,W], blended into one result.

    Args:
        tile: side of a tile of `tensor`.
        grain: pixels of `tensor` for one of the result.
    """
    if max(tensor.shape[-2:]) <= tile:
        return function(tensor)
    side = int(tile / grain)
    blend = int(side * 0.25)
    kept = side - blend
    above: list[torch.Tensor] = []
    rows: list[torch.Tensor] = []
    row: list[torch.Tensor] = []
    strip: list[torch.Tensor] = []
    corners = _corners(tensor, tile)
    for place, (top, left) in enumerate(corners):
        result = function(tensor[..., top : top + tile, left : left + tile])
        if above:
            result = _blended(above[len(row)], result, blend, dim=-2)
        if row:
            result = _blended(row[-1], result, blend, dim=-1)
        row.append(result)
        strip.append(result[..., :kept, :kept])
        if place + 1 == len(corners) or corners[place + 1][0] != top:
            rows.append(torch.cat(strip, dim=-1))
            above, row, strip = row, [], []
    return torch.cat(rows, dim=-2)


def _blended(before: torch.Tensor, after: torch.Tensor, extent: int, *, dim: int) -> torch.Tensor:
    """`after`, its first `extent` pixels along `dim` fading over from the last ones of `before`."""
    extent = min(before.shape[dim], after.shape[dim], extent)
    weight = torch.arange(extent, device=after.device, dtype=after.dtype) / extent
    weight = weight.view((-1, *(1,) * (-dim - 1)))
    seam = before.narrow(dim, before.shape[dim] - extent, extent) * (1 - weight) + after.narrow(dim, 0, extent) * weight
    return torch.cat([seam, after.narrow(dim, extent, after.shape[dim] - extent)], dim=dim)
