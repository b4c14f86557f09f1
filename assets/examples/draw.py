"""Draws the example pictures beside this file: python assets/examples/draw.py, from the project's folder."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from engines.training.world import render, sprites  # noqa: E402

WIDTH, HEIGHT = 320, 256
# name -> look seed (none of them is trained on), colour, shape
PICTURES = {
    "red_star": (116, "red", "star"),
    "checkered_ball": (111, "blue", "circle"),
    "striped_square": (104, "orange", "square"),
}


def main() -> None:
    """Write every picture."""
    for name, (look, colour, shape) in PICTURES.items():
        subject = sprites.sprite(sprites.EVALUATION_LOOKS + look, colour=colour, shape=shape)
        canvas = np.ones((HEIGHT, WIDTH, 3), np.float32)
        render.place(canvas, subject.picture, x=WIDTH / 2, y=HEIGHT / 2, radius=0.42 * HEIGHT, angle=0.0)
        Image.fromarray(np.round(canvas.clip(0, 1) * 255).astype(np.uint8)).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
