"""V-JEPA 2: frames -> features of what happens in them, and what it expects to see. Positions are right for any grid.

Source: facebookresearch/vjepa2 src/models/vision_transformer.py, predictor.py and evals/hub/preprocessor.py.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers import VJEPA2Config, VJEPA2Model
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention, apply_masks

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

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return int(self.num_attention_heads)

    def get_position_ids(
        self, x: torch.Tensor, masks: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Time, row and column of tokens [B,N,D] in their order, or of those whose numbers `masks` [B,N] tells."""
        rows, columns = self.grid
        ids = torch.arange(x.size(1), device=x.device) if masks is None else masks[:, None].expand(-1, self.heads, -1)
        return ids // (rows * columns), ids % (rows * columns) // columns, ids % columns


class VideoEncoder(VJEPA2Model):
    """V-JEPA 2: its encoder and, where it is asked for, what predicts the features of tokens it does not see.

    Args:
        config: arguments of VJEPA2Config.
        predicts: whether the predictor is there.
    """

    def __init__(self, config: VJEPA2Config, *, predicts: bool = False) -> None:
        super().__init__(config)
        parts = [(self.encoder, config.hidden_size, config.num_attention_heads)]
        if predicts:
            parts.append((self.predictor, config.pred_hidden_size, config.pred_num_attention_heads))
        else:
            del self.predictor
        self._attentions = []
        for part, width, heads in parts:
            for layer in part.layer:
                layer.attention = GridAttention(config, width, heads).apply(self._init_weights)
                self._attentions.append(layer.attention)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Video [B,3,T,H,W], normalised -> features [B,T/2*rows*columns,D] in order time, row, column.

        Raises:
            ValueError: T is no multiple of the tubelet (the library would drop the last frame, silently).
        """
        self._lay_out(video)
        return super().forward(video.transpose(1, 2), skip_predictor=True).last_hidden_state

    def seen(self, video: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Features [B,N,D] of the tokens with the numbers `tokens` [B,N] alone: the others are not even looked at."""
        self._lay_out(video)
        states = apply_masks(self.encoder.embeddings(video.transpose(1, 2)), [tokens])
        for layer in self.encoder.layer:
            states = layer(states, tokens)[0]
        return self.encoder.layernorm(states)

    def predict(self, features: torch.Tensor, tokens: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Features [B,M,D] expected at the tokens `wanted` [B,M], from those `seen` at `tokens` [B,N]."""
        predictor = self.predictor
        states, places = predictor.embeddings(features, [tokens], [wanted])
        order = torch.argsort(places, dim=1)  # as it was trained: in the order of the clip
        states, places = predictor.sort_tokens(states, places, order)
        for layer in predictor.layer:
            states = layer(states, places)[0]
        states = predictor.unsort_tokens(predictor.layernorm(states), order)
        return predictor.proj(states[:, tokens.shape[1] :])

    def _lay_out(self, video: torch.Tensor) -> None:
        if video.shape[2] % self.config.tubelet_size:
            raise ValueError(f"{video.shape[2]} frames are no whole number of tubelets")
        grid = (video.shape[3] // self.config.patch_size, video.shape[4] // self.config.patch_size)
        for attention in self._attentions:
            attention.grid = grid


def build_encoder(config: dict[str, Any], *, predicts: bool = False) -> VideoEncoder:
    """A VideoEncoder from plain arguments of its configuration."""
    return VideoEncoder(VJEPA2Config(**config), predicts=predicts)


def pixel_values(frames: np.ndarray, *, size: int, resize: Resize = "squash") -> torch.Tensor:
    """Frames uint8 [T,H,W,3] -> video float32 [3,T,size,size] in ImageNet's statistics."""
    squares = _middles(frames, size) if resize == "crop" else _squashed(frames, size)
    return in_statistics(squares)


def in_statistics(levels: torch.Tensor) -> torch.Tensor:
    """Video [...,3,T,H,W] in [0,1] -> in ImageNet's statistics."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1, 1).to(levels) for values in (MEAN, DEVIATION))
    return (levels - mean) / deviation


def _squashed(frames: np.ndarray, size: int) -> torch.Tensor:
    """The whole frames as squares in [0,1], bilinear with antialiasing: [3,T,size,size]."""
    levels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return squashed(levels, size).transpose(0, 1)


def squashed(levels: torch.Tensor, size: int) -> torch.Tensor:
    """Frames [T,3,H,W] -> [T,3,size,size], bilinear with antialiasing."""
    return interpolate(levels, (size, size), mode="bilinear", antialias=True, align_corners=False)


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
