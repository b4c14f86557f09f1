"""How much of a clip V-JEPA 2 did not expect: the error of what its predictor says will be seen next.

From the first part of a window the encoder and the predictor say which features the rest will have; the encoder then
sees the whole window. The less the two agree, the less the clip goes on as clips do. Only clips of the same scene can
be compared: a moving one is harder to foresee than a still one.
Source: V-JEPA's violation of expectation (arXiv 2502.11831), as a reward in WMReward (arXiv 2601.10553).
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from engines.phantom_physics.encoder import VideoEncoder, pixel_values
from engines.phantom_physics.latents import TUBELET, PhysicsSpace, tubelet_count, windows

SEEN = (0.25, 0.5, 0.75)  # of a window, before it is foretold how it ends


FEWEST = 5  # frames


def surprise(network: VideoEncoder, frames: np.ndarray, space: PhysicsSpace) -> float:
    """`surprise_of` a clip uint8 [T,H,W,3]."""
    return surprise_of(network, pixel_values(frames, size=space.size, resize=space.resize), space)


@torch.no_grad()
def surprise_of(network: VideoEncoder, video: torch.Tensor, space: PhysicsSpace) -> float:
    """One minus the mean cosine of expected and seen features, 0 (all as foreseen) to 2.

    Args:
        network: V-JEPA 2 with its predictor.
        video: as the encoder sees it, [3,T,size,size], T odd, at least 5.

    Raises:
        ValueError: an even number of frames, or too few.
    """
    frames = video.shape[1]
    if frames % TUBELET == 0 or frames < FEWEST:
        raise ValueError(f"{frames} frames: an odd number from {FEWEST} on is needed")
    shown, side = torch.cat([video[:, :1], video], 1), space.size // network.config.patch_size
    values = []
    for window in windows(tubelet_count(frames), longest=space.max_frames // TUBELET):
        count = window.stop - window.start
        part = shown[:, window.start * TUBELET : window.stop * TUBELET]
        video = part[None].to(network.device, network.dtype)
        features = network(video).float()
        tokens = torch.arange(count * side * side, device=network.device)[None]
        for share in SEEN:
            known = max(1, round(share * count)) * side * side
            seen, hidden = tokens[:, :known], tokens[:, known:]
            if not hidden.numel():
                continue
            expected = network.predict(network.seen(video, seen), seen, hidden).float()
            values.append(1 - cosine_similarity(expected, normed(features)[:, known:], dim=-1).mean().item())
    return float(np.mean(values))


def normed(features: torch.Tensor) -> torch.Tensor:
    """Features [...,D] as the predictor learned to say them: normalised over their channels."""
    return torch.nn.functional.layer_norm(features, features.shape[-1:])
