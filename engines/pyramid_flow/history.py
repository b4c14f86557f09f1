"""What a unit sees of the units before it: the newer, the finer.

Source: Pyramid-Flow pyramid_dit_for_video_gen_pipeline.py, generate (past_condition_latents); paper section 3.3.
"""

from __future__ import annotations

import torch

from engines.pyramid_flow.noise import halved


def pyramid(latents: torch.Tensor, stages: int) -> list[torch.Tensor]:
    """Finished latents [B,C,F,h,w] at the resolution of every stage, coarsest first."""
    levels = [latents]
    for _ in range(stages - 1):
        levels.append(halved(levels[-1]))
    return levels[::-1]


def history(levels: list[torch.Tensor], stage: int, *, unit_frames: int = 1) -> list[torch.Tensor]:
    """The clips of finished latents that a unit is given in `stage`, oldest first.

    The newest unit comes at the stage's own resolution, each older one a level coarser, and all that is left at the
    coarsest level is one clip.

    Args:
        levels: of `pyramid`; F >= 1 finished frames.
        unit_frames: latent frames of a unit; the video's first frame is a unit of its own.
    """
    clips, level, end = [], stage, levels[0].shape[2]
    clips.append(levels[level][:, :, max(0, end - unit_frames) : end])
    end -= unit_frames
    while end > 0:
        level = max(level - 1, 0)
        begin = 0 if level == 0 else max(0, end - unit_frames)
        clips.append(levels[level][:, :, begin:end])
        end = begin
    return clips[::-1]
