"""Pictures that packages and fonts ship: emoji and photographs, with their held-out parts.

Emoji come from the Noto Color Emoji font (OFL) through Pillow, photographs from scikit-image.
Both are optional at run time: without them the world has sprites and shapes only.
"""

import functools
import logging
import random
import unicodedata
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

log = logging.getLogger(__name__)

EMOJI_FONTS = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf"),
)
EMOJI_BLOCKS = ((0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF))
EMOJI_NATIVE_SIZE = 109
EMOJI_MASTER_SIZE = 96
EMOJI_HELD_OUT = 200
# Nearly identical glyphs (clock faces, moon phases) would make "which reference is it?" unanswerable.
EMOJI_SKIPPED = frozenset(range(0x1F550, 0x1F568)) | frozenset(range(0x1F311, 0x1F319)) | frozenset((0x1F3FB,))

PHOTOS_TRAIN = (
    "astronaut", "motorcycle_left", "motorcycle_right", "hubble_deep_field", "ihc", "retina", "grass", "gravel",
    "camera", "brick", "coins", "moon", "color",
)  # fmt: skip
PHOTOS_HELD_OUT = ("coffee", "chelsea", "rocket")
PHOTO_SIDE = 320


def emoji_font() -> Path | None:
    """Path of the colour emoji font, or None when the system has none."""
    return next((path for path in EMOJI_FONTS if path.is_file()), None)


@functools.cache
def _emoji() -> dict[int, np.ndarray]:
    """Code point -> premultiplied RGBA float32 [S,S,4] in 0..1; empty without the font."""
    path = emoji_font()
    if path is None:
        log.warning("No colour emoji font found: install fonts-noto-color-emoji to train with emoji subjects.")
        return {}
    font = ImageFont.truetype(str(path), EMOJI_NATIVE_SIZE)
    found = {}
    for first, last in EMOJI_BLOCKS:
        for code in range(first, last + 1):
            if code in EMOJI_SKIPPED or unicodedata.category(chr(code)) != "So":
                continue
            box = font.getbbox(chr(code))
            if box[2] - box[0] < 40 or box[3] - box[1] < 40:
                continue
            canvas = Image.new("RGBA", (136, 136))
            ImageDraw.Draw(canvas).text((68, 68), chr(code), font=font, embedded_color=True, anchor="mm")
            pixels = np.asarray(canvas, np.float32) / 255.0
            if (pixels[..., 3] > 0.5).mean() < 0.12:
                continue
            pixels[..., :3] *= pixels[..., 3:]
            found[code] = cv2.resize(pixels, (EMOJI_MASTER_SIZE, EMOJI_MASTER_SIZE), interpolation=cv2.INTER_AREA)
    return found


@functools.cache
def emoji_codes(*, held_out: bool) -> tuple[int, ...]:
    """Code points of the training or the evaluation split (a fixed shuffle, 200 held out)."""
    codes = sorted(_emoji())
    random.Random(20).shuffle(codes)
    return tuple(codes[:EMOJI_HELD_OUT] if held_out else codes[EMOJI_HELD_OUT:])


def emoji_picture(code: int) -> np.ndarray:
    """Premultiplied RGBA float32 [S,S,4] of one emoji."""
    return _emoji()[code]


def emoji_name(code: int) -> str:
    """Plain lower-case name such as `grinning face`."""
    return unicodedata.name(chr(code), "picture").lower().replace("-", " ")


@functools.cache
def photographs(*, held_out: bool) -> tuple[np.ndarray, ...]:
    """The split's photographs as uint8 RGB, shorter side 320 pixels; empty without scikit-image."""
    try:
        import skimage
    except ImportError:
        log.warning("scikit-image is not installed: training without photographs.")
        return ()
    folder = Path(skimage.__file__).parent / "data"
    pictures = []
    for name in PHOTOS_HELD_OUT if held_out else PHOTOS_TRAIN:
        path = next((p for p in (folder / f"{name}.png", folder / f"{name}.jpg") if p.is_file()), None)
        if path is None:
            continue
        picture = np.asarray(Image.open(path).convert("RGB"))
        scale = PHOTO_SIDE / min(picture.shape[:2])
        pictures.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return tuple(pictures)
