"""Draws the example pictures beside this file: python assets/examples/draw.py, from the project's folder."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from engines.training.world import WorldConfig, make_clip, render, sprites  # noqa: E402

WIDTH, HEIGHT = 384, 256
RADIUS = 0.27  # in heights: about the size that the subject has in its clip
# name -> colour, shape: plain ones, which the built-in models keep best.
PICTURES = {
    "orange_ball": ("orange", "circle"),
    "purple_square": ("purple", "square"),
    "yellow_ring": ("yellow", "ring"),
    "red_star": ("red", "star"),
}
# First frames for image-to-video: seeds of held-out clips.
SCENES = {"green_circle_scene": 36, "green_star_scene": 23, "red_square_scene": 42}
SCENE = WorldConfig(
    width=384,
    height=256,
    frames=1,
    held_out=True,
    subject_shares=(0.5, 0.5, 0.0, 0.0),
    two_subjects=0.0,
    photo_background=0.0,
    paraphrase=0.0,
    smallest=0.25,
)


def main() -> None:
    """Write every picture."""
    for name, (colour, shape) in PICTURES.items():
        subject = sprites.flat_shape(np.random.default_rng(0), colour=colour, shape=shape)
        canvas = np.ones((HEIGHT, WIDTH, 3), np.float32)
        render.place(canvas, subject.picture, x=WIDTH / 2, y=HEIGHT / 2, radius=RADIUS * HEIGHT, angle=0.0, lit=True)
        save(name, np.round(canvas.clip(0, 1) * 255).astype(np.uint8))
    for name, seed in SCENES.items():
        save(name, make_clip(seed, SCENE).frames[0])


def save(name: str, picture: np.ndarray) -> None:
    """Write uint8 [H,W,3] as a PNG beside this file."""
    Image.fromarray(picture).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
