"""Batches for BindWeave's starter: world clips with one to three subjects, their pictures, and what is asked of them.

The batch of step k depends on the recipe's seed and k only. Pictures are made as the engine makes them: letterboxed on
black, for the image encoder and the latents; as they are, for the multimodal model.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from engines.bindweave.conditions import clip_pixels, latent_mask, reference_frames, with_clip_frames
from engines.bindweave.reading import reference_patches
from engines.bindweave.spec import MAX_REFERENCES, read_on
from engines.media.framing import Masked, letterbox
from engines.qwen.chat import text_then_pictures

from ..data import ClipDataset, own_numbers, pad_tokens
from ..latents import to_unit
from ..recipe import Recipe, Stage
from ..world import Clip, Track, WorldConfig, make_clip
from ..world.references import draw_reference, draw_subject_alone
from .chat_tokenizer import answer_ids, with_control
from .cut_outs import turned_and_scaled, white_box
from .networks import IMAGE_ENCODER, MAX_PIXELS
from .reading import UNASKED

CHAT_LEN = 96  # tokens of the longest chat
SEEN_ALONE = 96  # side of the picture that a subject is cut out of


class Shown(NamedTuple):
    """One subject of a clip as the models are given it: its picture, and the picture on the clip's canvas."""

    picture: Image.Image
    canvas: Masked
    track: Track


class BindWeaveClips(ClipDataset):
    """Step index -> a batch; see `collate`. A stage whose world has single frames is for reading alone: no latents."""

    def __init__(self, recipe: Recipe, *, text_len: int, drop_text: float, cut_out: float, turn: float, scale: float):
        super().__init__(recipe, text_len=text_len, empty_text=drop_text)
        self.cut_out, self.turn, self.scale = cut_out, turn, scale
        tokenizer = Path(recipe.files) / "tokenizer" / "tokenizer.json"
        self.chat_tokenizer = with_control(tokenizer)
        self.answers = answer_ids(self.chat_tokenizer)
        self.end = self.chat_tokenizer.token_to_id("<|vision_end|>")

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        stage = self.recipe.stage(step)
        rng = own_numbers(self.recipe.seed, step)
        samples = []
        for index in range(stage.batch):
            clip = make_clip((self.recipe.seed, step, index), self._world_of(rng, stage))
            shown = self.pictures(rng, clip, stage.world)
            samples.append((clip, shown, self._caption(rng, clip)))
        return self.collate(samples, stage.world)

    def _world_of(self, rng: np.random.Generator, stage: Stage) -> WorldConfig:
        mix = stage.mix  # its many are three, and there is one subject at least
        shares = np.array([mix.none + mix.one, mix.two, mix.many])
        count = 1 + int(rng.choice(3, p=shares / shares.sum()))
        return dataclasses.replace(stage.world, exact_count=count, empty_photo=0.0, held_out=self.held_out)

    def _caption(self, rng: np.random.Generator, clip: Clip) -> str:
        """The clip's caption; now and then "", as the pass without a prompt has it, or text that says nothing."""
        choice = rng.random()
        if choice < self.empty_text:
            return ""
        if choice < self.empty_text + self.foreign_text:
            return "".join(chr(code) for code in rng.integers(0x4E00, 0x9FA0, 12))
        return clip.caption

    def pictures(self, rng: np.random.Generator, clip: Clip, world: WorldConfig) -> list[Shown]:
        """The clip's subjects in their own pictures; in any order where the caption tells them apart by a trait."""
        size = {"width": world.width, "height": world.height}
        tracks = [clip.tracks[index] for index in rng.permutation(len(clip.tracks))] if clip.trait else clip.tracks
        shown = []
        for track in tracks:
            radius = float(track.radii.max()) / world.height
            if rng.random() < self.cut_out:
                alone = white_box(*draw_subject_alone(rng, track.subject, radius=radius, height=SEEN_ALONE))
                picture = turned_and_scaled(alone, rng, **size, turn=self.turn, scale=self.scale)
            else:
                told = {"radius": radius, "white": world.reference_white, "held_out": self.held_out}
                picture = Masked(Image.fromarray(draw_reference(rng, track.subject, **told)))
            shown.append(Shown(picture.image, letterbox(picture.image, **size, mask=picture.mask), track))
        return shown

    def collate(self, samples: list[tuple[Clip, list[Shown], str]], world: WorldConfig) -> dict[str, torch.Tensor]:
        """Clips, their pictures and captions as tensors.

        Returns:
            `chat`, `chat_mask` [B,S] and `patches` [N,1176], `grids` [R,3] for the multimodal model, `ends`, `moves`
            [B,slots] for what it is asked; and with frames `latents` [B,C,F,h,w], `ids`, `mask` [B,L],
            `condition` [B,4+C,slots+F,h,w], `clip` [B,slots,3,s,s], `shown` [B] how many slots are filled.
        """
        batch = self._chats(samples)
        if world.frames == 1:
            longest = int(batch["chat_mask"].sum(1).max())
            return batch | {name: batch[name][:, :longest] for name in ("chat", "chat_mask")}
        latents = self.code.encode(torch.stack([to_unit(clip.frames) for clip, _, _ in samples]))
        rows, columns = latents.shape[-2:]
        grey = self.code.encode(torch.zeros(1, 3, world.frames, world.height, world.width))[0]
        conditions, looks = [], []
        for _, shown, _ in samples:
            frames = torch.stack([to_unit(np.array(one.canvas.image)[None]) for one in shown])
            masks = [latent_mask(np.asarray(one.canvas.mask), rows=rows, columns=columns) for one in shown]
            references = reference_frames(list(self.code.encode(frames)), masks, slots=MAX_REFERENCES)
            conditions.append(with_clip_frames(references, grey))
            values = [clip_pixels(np.asarray(one.canvas.image), size=IMAGE_ENCODER["image_size"]) for one in shown]
            looks.append(torch.nn.functional.pad(torch.cat(values), (0,) * 7 + (MAX_REFERENCES - len(shown),)))
        ids, mask = pad_tokens(
            [self.tokenizer(caption)["input_ids"] for _, _, caption in samples], longest=self.text_len
        )
        return batch | {
            "latents": latents,
            "ids": ids,
            "mask": mask,
            "condition": torch.stack(conditions),
            "clip": torch.stack(looks),
            "shown": torch.tensor([len(shown) for _, shown, _ in samples]),
        }

    def _chats(self, samples: list[tuple[Clip, list[Shown], str]]) -> dict[str, torch.Tensor]:
        ids = torch.zeros(len(samples), CHAT_LEN, dtype=torch.long)
        mask = torch.zeros(len(samples), CHAT_LEN, dtype=torch.long)
        ends = torch.zeros(len(samples), MAX_REFERENCES, dtype=torch.long)
        moves = torch.full((len(samples), MAX_REFERENCES), UNASKED)
        seen: list[Any] = []
        for row, (_, shown, caption) in enumerate(samples):
            seen.append(reference_patches([one.picture for one in shown], max_pixels=MAX_PIXELS))
            chat = self._chat(caption or read_on(""), seen[-1].tokens)
            ids[row, : len(chat)], mask[row, : len(chat)] = torch.tensor(chat), 1
            places = [place for place, token in enumerate(chat) if token == self.end]
            ends[row, : len(places)] = torch.tensor(places)
            if caption:
                asked = [self.answers[one.track.motion] for one in shown]
                moves[row, : len(asked)] = torch.tensor(asked)
        patches, grids = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return {"chat": ids, "chat_mask": mask, "patches": patches, "grids": grids, "ends": ends, "moves": moves}

    def _chat(self, text: str, pictures: list[int]) -> list[int]:
        """Token ids of a chat; a text too long for the batch loses its end."""
        while True:
            chat = self.chat_tokenizer.encode(text_then_pictures(text, pictures), add_special_tokens=False).ids
            if len(chat) <= CHAT_LEN:
                return chat
            text = text[: max(0, len(text) - (len(chat) - CHAT_LEN))]
