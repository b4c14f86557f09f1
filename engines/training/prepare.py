"""What exists before any network: python -m engines.training.prepare [--out DIR]

Two codes of latents, the tokenizer, all fitted to the training split with fixed seeds, and the tokenizer with the
control tokens of chats; what is there already stays.
"""

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

import numpy as np
import torch

from . import networks
from .bindweave import chat_tokenizer
from .latents import BlockLatents, Blocks, fit, to_unit
from .tokens import train_tokenizer
from .world import Clip, WorldConfig, make_clip

log = logging.getLogger(__name__)

SEED = 5
WORLD = WorldConfig(
    frames=17,
    subject_shares=(0.3, 0.45, 0.2, 0.05),
    two_subjects=0.3,
    three_or_four=0.03,
    photo_background=0.08,
)
PHOTOS = dataclasses.replace(WORLD, empty_photo=1.0, camera=0.7)
CODES = {
    "wan_code.safetensors": (Blocks(8, 4), networks.WAN_CHANNELS),
    "pyramid_code4.safetensors": (Blocks(4, 8), networks.PYRAMID_CHANNELS),
}


def block_weights(clip: Clip, *, background: float = 0.15, photo: float = 0.5, size: Blocks) -> torch.Tensor:
    """How much each block [n+1,H/s,W/s] counts in the fit: little for flat background, fully where a subject is."""
    frames, height, width = clip.masks.shape
    space, time = size
    grouped = clip.masks[1:].reshape((frames - 1) // time, time, height, width).max(1)
    shares = np.concatenate([clip.masks[:1], grouped])
    shares = shares.reshape(-1, height // space, space, width // space, space).max((2, 4))
    base = background if clip.tracks else photo
    return torch.from_numpy(base + (shares > 0.02)).float()


def fit_latents(size: Blocks, channels: int, *, clips: int = 900) -> BlockLatents:
    """Fit the code of such blocks to world clips, every fifth only a photograph."""
    made = [make_clip((SEED, i), PHOTOS if i % 5 == 0 else WORLD, with_masks=True) for i in range(clips)]
    return fit(
        [to_unit(clip.frames) for clip in made],
        [block_weights(clip, size=size) for clip in made],
        channels=channels,
        size=size,
    )


def main(arguments: list[str] | None = None) -> int:
    """Fit and write what is missing."""
    parser = argparse.ArgumentParser(prog="python -m engines.training.prepare", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/starter"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    made = {name: lambda path, code=code: fit_latents(*code).save(path) for name, code in CODES.items()}
    made["tokenizer"] = lambda path: train_tokenizer(vocabulary=networks.VOCABULARY).save_pretrained(path)
    made[chat_tokenizer.FOLDER] = lambda path: chat_tokenizer.write(
        path, tokenizer=options.out / "tokenizer" / chat_tokenizer.FILE
    )
    for name, make in made.items():
        if not (options.out / name).exists():
            make(options.out / name)
            log.info("Wrote %s.", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
