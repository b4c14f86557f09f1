"""Reference pictures: the subject alone, elsewhere, at another size and angle than in the clip.

A reference that is a crop of its own clip would teach a network to paste.
"""

import numpy as np
from PIL import Image

from .. import words
from . import pictures, render, sprites


def draw_reference(
    rng: np.random.Generator, subject: sprites.Subject, *, radius: float, white: float, held_out: bool
) -> np.ndarray:
    """A picture uint8 [h,w,3] of the subject; `white` is the share on a plain white background.

    Set on the clip's canvas it shows the subject at about the size of the clip, `radius` in heights.
    """
    height = int(rng.choice([64, 96]))
    width = int(height * rng.choice([1.0, 1.0, 1.25, 1.5]))
    choice = rng.random()
    photos = pictures.photographs(held_out=held_out) if choice > white + (1 - white) * 0.7 else ()
    if photos:
        photo = photos[rng.integers(len(photos))]
        view = render.camera_views(rng, photo, camera=None, width=width, height=height, frames=1)
        canvas = np.ascontiguousarray(view[0])
    elif choice > white:
        name = str(rng.choice(list(words.BACKGROUNDS)))
        canvas = render.flat_background(name=name, floor=None, horizon=1.0, width=width, height=height)
    else:
        canvas = np.ones((height, width, 3), np.float32)
    radius = min(radius * rng.uniform(0.92, 1.15), 0.45) * height
    render.place(
        canvas,
        subject.picture,
        x=rng.uniform(radius, width - radius),
        y=rng.uniform(radius, height - radius),
        radius=radius,
        angle=rng.uniform(-0.3, 0.3),
        lit=subject.is_drawn,
    )
    return np.round(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def draw_subject_alone(
    rng: np.random.Generator, subject: sprites.Subject, *, radius: float, height: int
) -> tuple[Image.Image, Image.Image]:
    """A square picture of the subject on black and its mask, L, 255 on it; `radius` in heights of a clip."""
    reach = min(radius, 0.45) * height
    where = {"x": height / 2, "y": height / 2, "radius": reach, "angle": rng.uniform(-0.3, 0.3)}
    canvas, mask = np.zeros((height, height, 3), np.float32), np.zeros((height, height, 3), np.float32)
    render.place(canvas, subject.picture, lit=subject.is_drawn, **where)
    render.place(mask, np.ascontiguousarray(np.repeat(subject.picture[..., 3:], 4, 2)), lit=False, **where)
    picture = np.divide(canvas, mask, out=np.zeros_like(canvas), where=mask > 1e-3)
    seen, inside = (np.round(np.clip(part, 0, 1) * 255).astype(np.uint8) for part in (picture, mask[..., 0]))
    return Image.fromarray(seen), Image.fromarray(inside)
