"""Draws the example pictures beside this file: python assets/examples/draw.py, from the project's folder."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from engines.training.world import WorldConfig, make_clip, render, sprites  # noqa: E402

WIDTH, HEIGHT = 320, 256
# name -> look seed (none of them is trained on), colour, shape
PICTURES = {
    "red_star": (116, "red", "star"),
    "checkered_ball": (111, "blue", "circle"),
    "orange_ball": (112, "orange", "circle"),
}
# First frames for image-to-video: seeds of held-out clips.
SCENES = {"orange_circle_scene": 13, "cyan_square_scene": 17, "purple_circle_scene": 42}
SCENE = WorldConfig(
    width=384,
    height=256,
    frames=1,
    held_out=True,
    subject_shares=(0.5, 0.5, 0.0, 0.0),
    two_subjects=0.0,
    photo_background=0.0,
    paraphrase=0.0,
    smallest=0.2,
)


def main() -> None:
    """Write every picture."""
    for name, (look, colour, shape) in PICTURES.items():
        subject = sprites.sprite(sprites.EVALUATION_LOOKS + look, colour=colour, shape=shape)
        canvas = np.ones((HEIGHT, WIDTH, 3), np.float32)
        render.place(canvas, subject.picture, x=WIDTH / 2, y=HEIGHT / 2, radius=0.42 * HEIGHT, angle=0.0)
        save(name, np.round(canvas.clip(0, 1) * 255).astype(np.uint8))
    for name, seed in SCENES.items():
        save(name, make_clip(seed, SCENE).frames[0])


def save(name: str, picture: np.ndarray) -> None:
    """Write uint8 [H,W,3] as a PNG beside this file."""
    Image.fromarray(picture).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
