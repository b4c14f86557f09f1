"""Pictures -> states of the CLIP image encoder, for the image-to-video networks of Wan.

Source: Wan2.1 wan/modules/clip.py; the library's own processor crops, and resizes with antialiasing, as Wan does not.
"""

from __future__ import annotations

import torch
from transformers import CLIPVisionModel

from engines.sampling.finite import finite

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def pixel_values(
    image: torch.Tensor, *, size: int, interpolation: str = "bicubic", antialias: bool = False
) -> torch.Tensor:
    """Picture [3,H,W] in [-1,1] -> [1,3,size,size]: squeezed as Wan does or as told, then CLIP's statistics."""
    resized = torch.nn.functional.interpolate(
        image[None], size=(size, size), mode=interpolation, align_corners=False, antialias=antialias
    )
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1).to(resized) for values in (MEAN, DEVIATION))
    return (resized * 0.5 + 0.5 - mean) / deviation


@torch.no_grad()
def encode_image(encoder: CLIPVisionModel, values: torch.Tensor) -> torch.Tensor:
    """Pixel values [B,3,S,S] -> states [B,1+patches,D] after all blocks but the last, without a final norm."""
    values = values.to(encoder.device, encoder.dtype)
    states = encoder(pixel_values=values, output_hidden_states=True).hidden_states[-2]
    return finite(states, role="image_encoder", when="from a picture")
