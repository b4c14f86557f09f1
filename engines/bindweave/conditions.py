"""Reference pictures -> what the transformer sees of them: letterboxed frames, their masks, and CLIP states, in slots.

Source: BindWeave s2v/tasks/inference/pipeline/wan_pipeline_s2v.py (RefTransform, merge_ref_*).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engines.wan.image import pixel_values
from engines.wan.vae import to_pixels

MASK_CHANNELS = 4


def clip_pixels(picture: np.ndarray, *, size: int) -> torch.Tensor:
    """Letterboxed picture uint8 [H,W,3] -> CLIP's pixel values [1,3,size,size], squeezed with its black bars."""
    return pixel_values(to_pixels(picture)[0, :, 0], size=size, interpolation="bilinear", antialias=True)


def latent_mask(mask: np.ndarray, *, rows: int, columns: int) -> torch.Tensor:
    """Mask uint8 [H,W], 255 inside -> float32 [rows,columns] of 0 and 1."""
    inside = torch.from_numpy(mask > 127).float()[None, None]
    return torch.nn.functional.interpolate(inside, (rows, columns), mode="nearest")[0, 0]


def reference_frames(latents: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], *, slots: int) -> torch.Tensor:
    """Latents [C,1,h,w] and masks [h,w] of the pictures -> [4+C,slots,h,w]: the mask in the first of four channels.

    Slots without a picture are zero in mask and latent.
    """
    channels, _, rows, columns = latents[0].shape
    frames = latents[0].new_zeros(MASK_CHANNELS + channels, slots, rows, columns)
    for slot, (latent, mask) in enumerate(zip(latents, masks, strict=True)):
        frames[0, slot] = mask
        frames[MASK_CHANNELS:, slot] = latent[:, 0]
    return frames


def with_clip_frames(references: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """[4+C,R,h,w] and the grey clip's latents [C,F,h,w] -> condition [4+C,R+F,h,w]; the clip's masks are zero."""
    clip = torch.nn.functional.pad(grey, (0, 0, 0, 0, 0, 0, MASK_CHANNELS, 0))
    return torch.cat([references, clip], dim=1)


def clip_states(states: Sequence[torch.Tensor], *, slots: int) -> torch.Tensor:
    """CLIP states [N,D] of the pictures -> [slots*N,D], zero in the slots without a picture."""
    tokens, width = states[0].shape
    blocks = states[0].new_zeros(slots, tokens, width)
    blocks[: len(states)] = torch.stack(list(states))
    return blocks.flatten(0, 1)
