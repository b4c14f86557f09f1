"""Endless batches for the networks: latents of world clips, token ids, reference latents.

The batch of step k depends on the recipe's seed and k only, so a resumed run sees what an unbroken one would.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engines.media import framing

from .latents import BlockLatents, to_unit
from .recipe import Recipe, Stage
from .tokens import load_tokenizer
from .world import WorldConfig, make_clip


def fit_on_canvas(picture: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """Phantom's reference preprocessing of a picture uint8 [H,W,3]: see engines.media.framing."""
    return np.array(framing.fit_on_canvas(Image.fromarray(picture), width=width, height=height))


def pad_tokens(rows: list[list[int]], *, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token rows -> ids and mask [B,L], cut at `longest` (the end token stays last)."""
    rows = [row if len(row) <= longest else [*row[: longest - 1], row[-1]] for row in rows]
    length = max(len(row) for row in rows)
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask


def own_numbers(*seed: int) -> np.random.Generator:
    """Random numbers of a batch itself, which none of its clips has: numpy takes (7, 1) and (7, 1, 0) for the same."""
    return np.random.default_rng((*seed, 0, 0, 0, 1))


POOL = 512  # batches: a pool of 32, each clip shown twelve times, was learnt by heart


class ClipDataset(torch.utils.data.Dataset):
    """Step index -> batch: `latents` [B,Z,F,h,w], `ids`, `mask` [B,L], and `refs` [B,Z,R,h,w] when there are any."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        text_len: int,
        empty_text: float = 0.1,
        foreign_text: float = 0.02,
        held_out: bool = False,
    ) -> None:
        self.recipe, self.text_len, self.held_out = recipe, text_len, held_out
        self.empty_text, self.foreign_text = empty_text, foreign_text
        self.code = BlockLatents.load(Path(recipe.files) / recipe.latents_file)
        self.tokenizer = load_tokenizer(Path(recipe.files) / "tokenizer")

    def __len__(self) -> int:
        return self.recipe.steps

    def _world(self, rng: np.random.Generator, stage: Stage) -> tuple[WorldConfig, int]:
        """The batch's world and how many references each of its clips brings."""
        mix, world = stage.mix, stage.world
        shares = np.array([mix.none, mix.one, mix.two, mix.many])
        count = int(rng.choice(4, p=shares / shares.sum()))
        if count == 0:
            return dataclasses.replace(world, held_out=self.held_out), 0
        world = dataclasses.replace(
            world, references=True, two_subjects=float(count == 2), three_or_four=0.0, empty_photo=0.0
        )
        if count == 3:
            count = int(rng.integers(3, 5))
            world = dataclasses.replace(world, exact_count=count)
        return dataclasses.replace(world, held_out=self.held_out), count

    def _text(self, rng: np.random.Generator, caption: str) -> list[int]:
        """Token ids of the caption, of no text, or of text that says nothing (a negative prompt in another script)."""
        choice = rng.random()
        if choice < self.empty_text:
            caption = ""
        elif choice < self.empty_text + self.foreign_text:
            caption = "".join(chr(code) for code in rng.integers(0x4E00, 0x9FA0, 40))
        return self.tokenizer(caption)["input_ids"]

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        stage = self.recipe.stage(step)
        rng = own_numbers(self.recipe.seed, step)
        world, count = self._world(rng, stage)
        clips = [make_clip((self.recipe.seed, step, index), world) for index in range(stage.batch)]
        video = torch.stack([to_unit(clip.frames) for clip in clips])
        ids, mask = pad_tokens([self._text(rng, clip.caption) for clip in clips], longest=self.text_len)
        batch = {"latents": self.code.encode(video), "ids": ids, "mask": mask}
        if count:
            size = {"width": world.width, "height": world.height}
            pictures = [[to_unit(fit_on_canvas(p, **size)[None]) for p in clip.references] for clip in clips]
            flat = torch.stack([picture for row in pictures for picture in row])
            coded = self.code.encode(flat)[:, :, 0].unflatten(0, (stage.batch, count))
            batch["refs"] = coded.transpose(1, 2).contiguous()
        return batch


class PooledClips(ClipDataset):
    """The same without references, every clip drawn once and shown `reuse` times: drawing it is the slow part.

    The clips of `pool` batches are shown in a new order each time; only then others are drawn. Stages that take turns
    have a pool each, of as many batches as their turns among those.
    """

    def __init__(self, recipe: Recipe, *, reuse: int, pool: int = POOL, **settings: float) -> None:
        super().__init__(recipe, **settings)
        self.reuse, self.pool = reuse, pool
        self._captions: dict[tuple[Stage, int], str] = {}
        # One tensor for all: kept one by one among the much larger frames that come and go, they break up the memory.
        self._latents: dict[Stage, torch.Tensor] = {}
        self._current = -1

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        turns = self.recipe.turns(step)
        rounds = max(1, self.pool // len(turns))
        showing, place = divmod(step, rounds * len(turns))
        round_, turn = divmod(place, len(turns))
        stage = turns[turn]
        current = showing // self.reuse
        if self._current != current:
            self._current, self._captions = current, {}
        each = turns.count(stage)
        count, batch = rounds * each * stage.batch, round_ * each + turns[:turn].count(stage)
        order = own_numbers(self.recipe.seed, showing, 1).permutation(count)
        numbers = order[batch * stage.batch : (batch + 1) * stage.batch]
        rows = [self._row(stage, int(number), count) for number in numbers]
        rng = own_numbers(self.recipe.seed, step)
        ids, mask = pad_tokens([self._text(rng, caption) for _, caption in rows], longest=self.text_len)
        return {"latents": torch.stack([latents for latents, _ in rows]).float(), "ids": ids, "mask": mask}

    def _row(self, stage: Stage, number: int, count: int) -> tuple[torch.Tensor, str]:
        if (stage, number) not in self._captions:
            world = dataclasses.replace(stage.world, held_out=self.held_out)
            clip = make_clip((self.recipe.seed, self._current, number), world)
            latents = self.code.encode(to_unit(clip.frames)[None])[0]
            if stage not in self._latents:
                self._latents[stage] = torch.empty((count, *latents.shape), dtype=torch.bfloat16)
            self._latents[stage][number] = latents
            self._captions[stage, number] = clip.caption
        return self._latents[stage][number], self._captions[stage, number]
