"""Training clips from real videos: decoded, brought to the bucket's frame rate and size, with a caption in tokens."""

from __future__ import annotations

import dataclasses
import html
import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import ftfy
import numpy as np
import torch

from engines.flashi2v.engine import cover
from engines.loading.tokenizers import load_tokenizer
from engines.prompting.tokens import tokenise as clip_tokens
from engines.pyramid_flow.text import CLIP_LEN, load_clip_tokenizer
from engines.wan.text import tokenise

from .data import pad_tokens
from .latents import to_unit
from .recipe import Recipe
from .video_list import SAME_FPS, Bucket, Samples

log = logging.getLogger(__name__)

ATTEMPTS = 20

_NOISE = (
    r"https?://\S+|www\.\S+",
    r"<[^>]*>",
    r"@[\w.]+",
    r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]+",
    r"\d{1,3}(\.\d{1,3}){3}",
    r"\b\d{7,}\b",
    r"\b[\w-]+\.(png|jpe?g|gif|bmp|webp|mp4|pdf|html?)\b",
    r"[#|~^*_=+\\/\[\](){}<>]+",
)


def training_caption(text: str) -> str:
    """A caption as the published weights saw them: lower case, no addresses, names, CJK characters or brackets."""
    text = html.unescape(html.unescape(ftfy.fix_text(unquote_plus(text)))).lower()
    for pattern in _NOISE:
        text = re.sub(pattern, " ", text)
    return re.sub(r"\s+", " ", text).strip()


def decode_clip(sample: dict[str, Any], bucket: Bucket, rng: np.random.Generator) -> np.ndarray:
    """A random clip of a sample, uint8 [frames,height,width,3].

    Raises:
        ValueError: the file's frame rate is not what the list says, or it has too few frames.
        OSError, av.FFmpegError: the file cannot be read.
    """
    import av

    indices = bucket.indices(sample)
    start = int(rng.integers(0, len(indices) - bucket.frames + 1))
    wanted = indices[start : start + bucket.frames].tolist()
    frames = []
    with av.open(sample["path"]) as container:
        stream = container.streams.video[0]
        if sample.get("fps") and abs(float(stream.average_rate) - sample["fps"]) > SAME_FPS:
            raise ValueError("the file has another frame rate than its list says")
        for number, frame in enumerate(container.decode(stream)):
            if number == wanted[len(frames)]:
                pixels = frame.to_ndarray(format="rgb24")
                frames.append(cover(pixels, width=bucket.width, height=bucket.height))
            if len(frames) == len(wanted):
                return np.stack(frames)
    raise ValueError("the file has fewer frames than its list says")


class VideoDataset(torch.utils.data.Dataset):
    """Step index -> `video` [B,3,T,H,W] in [-1,1], `ids` and `mask` [B,L]; all of one bucket, the same for the same k.

    With a `clip_tokenizer` (vocab.json and merges.txt) also `clip_ids` [B,K], the same captions in CLIP's tokens.

    A sample that cannot be read is replaced by another of its bucket.

    Attributes:
        cleaned: what is made of a caption before it is read.
    """

    cleaned = staticmethod(training_caption)

    def __init__(
        self,
        samples: Path,
        tokenizer: Path,
        *,
        buckets: tuple[Bucket, ...],
        batch: int,
        steps: int,
        seed: int,
        text_len: int,
        drop_text: float,
        clip_tokenizer: tuple[Path, ...] = (),
    ) -> None:
        self.clip_tokenizer = clip_tokenizer
        self.samples, self.tokenizer, self.buckets = samples, tokenizer, buckets
        self.batch, self.steps, self.seed = batch, steps, seed
        self.text_len, self.drop_text = text_len, drop_text
        self._store: Samples | None = None

    def __len__(self) -> int:
        return self.steps

    def _open(self) -> Samples:
        """Opened in the process that reads: a store does not survive a fork."""
        if self._store is None:
            self._store = Samples(self.samples)
            numbers = [self._store[index]["bucket"] for index in range(len(self._store))]
            self._members = [np.flatnonzero(np.array(numbers) == number) for number in range(len(self.buckets))]
        return self._store

    def close(self) -> None:
        """Let go of the list, which a process can open only once."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        store, rng = self._open(), np.random.default_rng((self.seed, step))
        number = store[int(rng.integers(len(store)))]["bucket"]
        read = zip(*(self._sample(store, number, rng) for _ in range(self.batch)), strict=True)
        clips, captions, *others = read
        rows = [tokenise(load_tokenizer(self.tokenizer), text, text_len=self.text_len)[0] for text in captions]
        ids, mask = pad_tokens(rows, longest=self.text_len)
        batch = {"video": torch.stack([to_unit(clip) for clip in clips]), "ids": ids, "mask": mask}
        if self.clip_tokenizer:
            rows = [
                clip_tokens(load_clip_tokenizer(self.clip_tokenizer), text, length=CLIP_LEN)[0] for text in captions
            ]
            batch["clip_ids"], _ = pad_tokens(rows, longest=CLIP_LEN)  # the end token has the largest id
        return batch | self._others(*others)

    def _others(self, *read: tuple[Any, ...]) -> dict[str, torch.Tensor]:
        """What `_read` of a subclass gives beside clip and caption, as tensors of the batch."""
        return {}

    def _read(self, sample: dict[str, Any], bucket: Bucket, rng: np.random.Generator) -> tuple[Any, ...]:
        """A sample's clip and caption; raises as `decode_clip` does."""
        clip = decode_clip(sample, bucket, rng)
        captions = [sample["cap"]] if isinstance(sample["cap"], str) else sample["cap"]
        caption = "" if rng.random() < self.drop_text else self.cleaned(str(rng.choice(captions)))
        return clip, caption

    def _sample(self, store: Samples, number: int, rng: np.random.Generator) -> tuple[Any, ...]:
        import av

        for _ in range(ATTEMPTS):
            sample = store[int(rng.choice(self._members[number]))]
            try:
                return self._read(sample, self.buckets[number], rng)
            except (ValueError, OSError, av.FFmpegError) as error:
                log.warning("%s is left out: %s.", Path(sample["path"]).name, error)
        raise RuntimeError(f"{ATTEMPTS} videos in a row could not be read: check the paths in the list.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoRecipe(Recipe):
    """Settings of a run on people's own videos."""

    samples: str = "samples"  # an .lmdb, or a folder of them
    buckets: tuple[Bucket, ...] = (Bucket(),)
    batch: int = 1
    text_len: int = 512
    drop_text: float = 0.1

    @property
    def batches(self) -> dict[str, Any]:
        """What any dataset of the filtered videos is told of its batches."""
        names = ("buckets", "batch", "steps", "seed", "text_len", "drop_text")
        return {name: getattr(self, name) for name in names}

    def videos(self, tokenizer: Path, *, clip_tokenizer: tuple[Path, ...] = ()) -> VideoDataset:
        """Clips of the filtered videos, captions in the tokens of `tokenizer`, and of `clip_tokenizer` if given."""
        return VideoDataset(Path(self.samples), tokenizer, clip_tokenizer=clip_tokenizer, **self.batches)
