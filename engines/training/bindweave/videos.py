"""Videos whose subjects are masked, for training BindWeave at full size: clips, and their subjects' pictures.

A sample of the list (engines/training/video_list.py) also has `subjects`: [{"frame": number, "mask": "masks/fox.png",
"aesthetic": 4.8, "match": 0.7}, ...]. A mask is as large as its frame and lies where its path leads from the video;
scores may be left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines.bindweave.conditions import latent_mask
from engines.bindweave.spec import MAX_REFERENCES
from engines.loading.tokenizers import load_tokenizer
from engines.media.framing import Masked, letterbox
from engines.qwen.chat import text_then_pictures, tokenise
from engines.qwen.pictures import patches
from engines.wan.image import pixel_values
from engines.wan.text import clean

from ..latents import to_unit
from ..video_clips import VideoDataset
from ..video_list import Bucket
from .cut_outs import Subject, kept, turned_and_scaled, white_box


class SubjectVideos(VideoDataset):
    """Step index -> one sample: see VideoDataset, and `read`. Texts differ in length, so a batch is one sample.

    Args:
        mllm_tokenizer: tokenizer.json of the multimodal model.
        clip_size: side of what the image encoder sees; `stride` pixels stand behind a latent's.
        turn, scale: see turned_and_scaled.
    """

    cleaned = staticmethod(clean)

    def __init__(
        self, *given: Any, mllm_tokenizer: Path, clip_size: int, stride: int, turn: float, scale: float, **told: Any
    ) -> None:
        super().__init__(*given, **told)
        if self.batch != 1:
            raise ValueError("batch must be 1: the texts of two samples differ in length.")
        self.mllm_tokenizer, self.clip_size, self.stride = mllm_tokenizer, clip_size, stride
        self.turn, self.scale = turn, scale
        self._pictures: dict[str, torch.Tensor] = {}

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """VideoDataset's, and `references` [R,3,1,H,W] in [-1,1], `masks` [R,h,w], `clip` [R,3,s,s], `chat` [1,S],
        `patches` [N,1176], `grids` [R,3] of R pictures."""
        return super().__getitem__(step) | self._pictures

    def _read(self, sample: dict[str, Any], bucket: Bucket, rng: np.random.Generator) -> tuple[Any, ...]:
        clip, caption = super()._read(sample, bucket, rng)
        self._pictures = self._seen(self._references(sample, bucket, rng), caption, bucket)
        return clip, caption

    def _references(self, sample: dict[str, Any], bucket: Bucket, rng: np.random.Generator) -> list[Masked]:
        """The sample's subjects in white boxes, turned and scaled, on black canvases of the clip's size."""
        found = sample.get("subjects") or []
        if not found:
            raise ValueError("it has no subjects")
        folder, size = Path(sample["path"]).parent, {"width": bucket.width, "height": bucket.height}
        masks = [_mask(folder / one["mask"]) for one in found]
        shares = [_share(mask) for mask in masks]
        scored = [
            Subject(area, one.get("aesthetic"), one.get("match")) for area, one in zip(shares, found, strict=True)
        ]
        canvases = []
        for number in kept(scored, most=MAX_REFERENCES, rng=rng):
            frame, mask = _frame(Path(sample["path"]), int(found[number]["frame"])), masks[number]
            if frame.size != mask.size:
                raise ValueError("a mask is not as large as its frame")
            factor = max(bucket.width / frame.width, bucket.height / frame.height)
            sides = (round(frame.width * factor), round(frame.height * factor))
            picture, inside = (
                frame.resize(sides, Image.Resampling.BICUBIC),
                mask.resize(sides, Image.Resampling.BILINEAR),
            )
            turned = turned_and_scaled(white_box(picture, inside), rng, **size, turn=self.turn, scale=self.scale)
            canvases.append(letterbox(turned.image, **size, mask=turned.mask))
        return canvases

    def _seen(self, canvases: list[Masked], caption: str, bucket: Bucket) -> dict[str, torch.Tensor]:
        """What each network is shown. As published in training: CLIP without antialiasing, Qwen half the canvas."""
        videos = [to_unit(np.array(canvas.image)[None]) for canvas in canvases]
        rows, columns = bucket.height // self.stride, bucket.width // self.stride
        halves = [
            canvas.image.resize((bucket.width // 2, bucket.height // 2), Image.Resampling.BILINEAR)
            for canvas in canvases
        ]
        looks = patches(halves)
        chat = text_then_pictures(caption, looks.tokens)
        return {
            "references": torch.stack(videos),
            "masks": torch.stack([latent_mask(np.array(one.mask), rows=rows, columns=columns) for one in canvases]),
            "clip": torch.cat([pixel_values(video[:, 0], size=self.clip_size) for video in videos]),
            "chat": tokenise(load_tokenizer(self.mllm_tokenizer), chat),
            "patches": looks.values,
            "grids": looks.grids,
        }


def _mask(path: Path) -> Image.Image:
    """L of 0 and 255; raises OSError where there is no picture."""
    with Image.open(path) as image:
        return image.convert("L").point(lambda level: 255 * (level > 127))


def _share(mask: Image.Image) -> float:
    """The share of a picture that the box of its mask fills."""
    box = mask.getbbox()
    if box is None:
        return 0.0
    return (box[2] - box[0]) * (box[3] - box[1]) / (mask.width * mask.height)


def _frame(path: Path, number: int) -> Image.Image:
    """One frame of a video; raises ValueError where it has fewer, OSError or av.FFmpegError where it cannot be read."""
    import av

    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == number:
                return frame.to_image()
    raise ValueError(f"it has no frame {number}")
