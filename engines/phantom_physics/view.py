"""The physics latents of a clip as a moving picture: their three strongest directions as red, green and blue."""

from __future__ import annotations

import numpy as np
import torch

from engines.media.metadata import VIEW_MARK
from engines.media.video import playback_bytes

LONG_SIDE = 192  # pixels
_DARKEST, _LIGHTEST = 0.02, 0.98  # shares of the values that are cut off


def components(latents: torch.Tensor) -> np.ndarray:
    """Physics latents [C,N,h,w] -> their first three principal components as uint8 [N,h,w,3]; fewer leave black.

    The sign of a component is that of its largest part, so that the same latents give the same colours.
    """
    values = latents.double().cpu().flatten(1).T
    values = values - values.mean(0)
    _, _, directions = torch.linalg.svd(values, full_matrices=False)
    directions = directions[:3]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    seen = values @ (directions * largest.sign()).T
    low, high = (torch.quantile(seen, share, dim=0) for share in (_DARKEST, _LIGHTEST))
    levels = ((seen - low) / (high - low).clamp(min=1e-9)).clamp(0, 1) * 255
    shown = torch.nn.functional.pad(levels, (0, 3 - levels.shape[1])).round().to(torch.uint8)
    return shown.view(*latents.shape[1:], 3).numpy()


def movie(latents: torch.Tensor, *, width: int, height: int, fps: float) -> bytes:
    """A looping WebP as long as its clip of `width` and `height`: a tubelet is two frames of it, the first one."""
    seen = components(latents)
    scale = LONG_SIDE / max(width, height)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows, columns = (np.arange(large) * small // large for large, small in zip(size, seen.shape[1:3], strict=True))
    large = seen[:, rows][:, :, columns]
    return playback_bytes(np.concatenate([large[:1], np.repeat(large[1:], 2, axis=0)]), fps=fps, mark=VIEW_MARK)
