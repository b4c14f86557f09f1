"""V-JEPA 2: frames -> features of what happens in them. The encoder only, with positions that are right for any grid.

Source: facebookresearch/vjepa2 src/models/vision_transformer.py and evals/hub/preprocessor.py.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers import VJEPA2Config, VJEPA2Model
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

# "squash": the whole frame, its shape ignored; "crop": the release's own, which drops all but the middle square.
Resize = Literal["squash", "crop"]


class GridAttention(VJEPA2RopeAttention):
    """Self-attention whose row and column of a token come from the clip.

    The library counts them on the configured square, whatever it is given: for any other grid its features are wrong
    (by 0.66 at deviation 1), silently.
    """

    grid: tuple[int, int]

    def get_position_ids(
        self, x: torch.Tensor, masks: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Time, row and column of tokens [B,N,D] in their order."""
        rows, columns = self.grid
        ids = torch.arange(x.size(1), device=x.device)
        return ids // (rows * columns), ids % (rows * columns) // columns, ids % columns


class VideoEncoder(VJEPA2Model):
    """The encoder of V-JEPA 2; what predicts masked tokens is left out.

    Args:
        config: arguments of VJEPA2Config.
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config)
        del self.predictor
        for layer in self.encoder.layer:
            layer.attention = GridAttention(config, config.hidden_size, config.num_attention_heads)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Video [B,3,T,H,W], normalised -> features [B,T/2*rows*columns,D] in order time, row, column.

        Raises:
            ValueError: T is no multiple of the tubelet (the library would drop the last frame, silently).
        """
        if video.shape[2] % self.config.tubelet_size:
            raise ValueError(f"{video.shape[2]} frames are no whole number of tubelets")
        grid = (video.shape[3] // self.config.patch_size, video.shape[4] // self.config.patch_size)
        for layer in self.encoder.layer:
            layer.attention.grid = grid
        return super().forward(video.transpose(1, 2), skip_predictor=True).last_hidden_state


def build_encoder(config: dict[str, Any]) -> VideoEncoder:
    """A VideoEncoder from plain arguments of its configuration."""
    return VideoEncoder(VJEPA2Config(**config))


def pixel_values(frames: np.ndarray, *, size: int, resize: Resize = "squash") -> torch.Tensor:
    """Frames uint8 [T,H,W,3] -> video float32 [3,T,size,size] in ImageNet's statistics."""
    squares = _middles(frames, size) if resize == "crop" else _squashed(frames, size)
    mean, deviation = (torch.tensor(values).view(3, 1, 1, 1) for values in (MEAN, DEVIATION))
    return (squares - mean) / deviation


def _squashed(frames: np.ndarray, size: int) -> torch.Tensor:
    """The whole frames as squares in [0,1], bilinear with antialiasing: [3,T,size,size]."""
    levels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    small = interpolate(levels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small.transpose(0, 1)


def _middles(frames: np.ndarray, size: int) -> torch.Tensor:
    """The release's own: short side to size * 256/224 by OpenCV in whole levels, then the middle square."""
    import cv2

    short = int(size * 256 / 224)
    height, width = frames.shape[1:3]
    shape = (short, int(short * height / width)) if width < height else (int(short * width / height), short)
    left, top = round((shape[0] - size) / 2), round((shape[1] - size) / 2)
    resized = [cv2.resize(frame, shape, interpolation=cv2.INTER_LINEAR) for frame in frames]
    middles = np.stack([frame[top : top + size, left : left + size] for frame in resized])
    return torch.from_numpy(middles).permute(3, 0, 1, 2).float() / 255
