"""Preparing a picture for a model: set whole on the clip's canvas, cropped to its frame, or the subject cut out."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from engines.errors import MediaError
from engines.media.brush import mended, parse

WHITE = (255, 255, 255)


def fit_on_canvas(image: Image.Image, *, width: int, height: int) -> Image.Image:
    """The RGB picture as large as fits, centred on a white canvas of width x height.

    Phantom's load_ref_images: sides are truncated, not rounded; the odd pixel goes right and below.
    Golden case phantom_wan/preprocess_refs.
    """
    ratio = image.width / image.height
    size = (width, int(width / ratio)) if ratio > width / height else (int(height * ratio), height)
    if 0 in size:
        raise _too_thin(image, width, height)
    canvas = Image.new("RGB", (width, height), WHITE)
    canvas.paste(image.resize(size, Image.Resampling.LANCZOS), ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


class Masked(NamedTuple):
    """A picture and its mask, L of the same size: 255 where the subject lies, 0 elsewhere; None for all of it."""

    image: Image.Image
    mask: Image.Image | None = None


def letterbox(image: Image.Image, *, width: int, height: int, mask: Image.Image | None = None) -> Masked:
    """The RGB picture centred on a black canvas of width x height: shrunk where it is larger, never enlarged.

    BindWeave's RefTransform: sides are truncated, the odd pixel goes right and below.
    Golden case bindweave/preprocess_refs.

    Args:
        mask: of the subject in the picture, L of its size; the whole picture's without one.
    """
    ratio = min(width / image.width, height / image.height, 1)
    size = (int(image.width * ratio), int(image.height * ratio))
    if 0 in size:
        raise _too_thin(image, width, height)
    corner = ((width - size[0]) // 2, (height - size[1]) // 2)
    canvas, inside = Image.new("RGB", (width, height)), Image.new("L", (width, height))
    canvas.paste(image.resize(size, Image.Resampling.LANCZOS), corner)
    inside.paste(Image.new("L", size, 255) if mask is None else mask.resize(size, Image.Resampling.BILINEAR), corner)
    return Masked(canvas, inside)


def _too_thin(image: Image.Image, width: int, height: int) -> MediaError:
    return MediaError(
        f"A picture of {image.width}x{image.height} pixels is too thin for a clip of {width}x{height}: "
        "crop it to its subject."
    )


# How a subject is set on the clip's canvas.
Setting = Literal["fitted", "letterboxed"]


def as_seen(image: Image.Image, setting: Setting, *, cut: bool, width: int, height: int, brush: str = "") -> CutOut:
    """What a model sees of an RGB reference picture, its subject cut out if told.

    Args:
        setting: "fitted" as large as fits on white, or "letterboxed", never enlarged on black, where a subject that is
            cut out stands in a white box.
        brush: strokes that mend the cut: see media.brush.
    """
    if setting == "fitted":
        subject = cut_out(image, brush) if cut else CutOut(image, found=True)
        return CutOut(fit_on_canvas(subject.image, width=width, height=height), subject.found)
    boxed = boxed_subject(image, brush) if cut else None
    seen = boxed.image if boxed else image
    return CutOut(letterbox(seen, width=width, height=height).image, found=boxed is not None or not cut)


class Crop(NamedTuple):
    """A picture is resized to `width` x `height`; the frame lies in it at `left`, `top`."""

    width: int
    height: int
    left: int
    top: int


def crop_to_cover(size: tuple[int, int], *, width: int, height: int, position: float = 0.5) -> Crop:
    """How a picture of `size` covers a frame of width x height without being stretched.

    Args:
        size: width and height of the picture.
        position: where the frame lies along the side that is cut: 0 left or top, 1 right or bottom.

    FlashI2V's centre crop at 0.5: the longer side is rounded up, offsets to the nearest, half to even.
    Golden cases flashi2v/preprocess_wide and preprocess_tall.
    """
    if size[1] / size[0] < height / width:
        resized = (ceil(height / size[1] * size[0]), height)
    else:
        resized = (width, ceil(width / size[0] * size[1]))
    left, top = (round((side - target) * position) for side, target in zip(resized, (width, height), strict=True))
    return Crop(*resized, left, top)


def cover_frame(image: Image.Image, *, width: int, height: int, position: float = 0.5) -> Image.Image:
    """The RGB picture cropped to width x height as `crop_to_cover` says, by Pillow's bicubic."""
    crop = crop_to_cover(image.size, width=width, height=height, position=position)
    resized = image.resize((crop.width, crop.height), Image.Resampling.BICUBIC)
    return resized.crop((crop.left, crop.top, crop.left + width, crop.top + height))


class CutOut(NamedTuple):
    """The subject on white; where none was `found`, the picture as it was."""

    image: Image.Image
    found: bool


# GrabCut runs on a small copy: its cost grows with the pixels, the outline is smoothed afterwards anyway.
_WORKING_SIDE = 384
_ROUNDS = 5
# A "subject" of less than 1 % or more than 95 % of the picture is a failed cut.
_SUBJECT_SHARE = (0.01, 0.95)
# Parts below this share of the largest, or below the least share of a subject, are specks.
_SPECK_SHARE = 0.05
# Lab distance up to which a border pixel looks like another border's background.
_NEAR = 16.0


def cut_out(image: Image.Image, brush: str = "") -> CutOut:
    """The subject of an RGB picture on white; see `silhouette`."""
    mask = silhouette(image, brush)
    return CutOut(image, found=False) if mask is None else CutOut(_on_white(image, mask), found=True)


def boxed_subject(image: Image.Image, brush: str = "") -> Masked | None:
    """The subject of an RGB picture on white, cut to its box, and its silhouette; None where none is found."""
    mask = silhouette(image, brush)
    if mask is None:
        return None
    box = mask.getbbox()
    return Masked(_on_white(image, mask).crop(box), mask.crop(box))


def silhouette(image: Image.Image, brush: str = "") -> Image.Image | None:
    """L of an RGB picture's size, 255 on its subject, by OpenCV's GrabCut; offline, deterministic, no network.

    What the borders of the picture share is taken as background, so a subject may be cut by one side, as
    portraits are. Works for one clear subject; None where nothing sensible is found.

    Args:
        brush: strokes that mend what was found: see media.brush.

    Raises:
        ValueError: with a sentence, for a text that is no strokes.
    """
    scale = min(1.0, _WORKING_SIDE / max(image.size))
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
    mask = _outline(small.size, small.tobytes())
    found = None if mask is None else mask.resize(image.size, Image.Resampling.BICUBIC)
    return mended(found, parse(brush), image.size)


@lru_cache(maxsize=8)
def _outline(size: tuple[int, int], rgb: bytes) -> Image.Image | None:
    """The mask L of a small RGB picture; kept, as a picture that is mended is asked for again with every stroke."""
    mask = _subject_mask(np.ascontiguousarray(np.frombuffer(rgb, np.uint8).reshape(size[1], size[0], 3)[:, :, ::-1]))
    return None if mask is None else Image.fromarray(mask)


def _on_white(image: Image.Image, mask: Image.Image) -> Image.Image:
    seen = Image.new("RGB", image.size, WHITE)
    seen.paste(image, mask=mask)
    return seen


def _subject_mask(pixels: np.ndarray) -> np.ndarray | None:
    """uint8 [H, W], 255 on the subject with a soft edge; None if there is none. `pixels` is BGR [H, W, 3]."""
    import cv2  # here, since only this function wants it

    height, width = pixels.shape[:2]
    mask = np.full((height, width), cv2.GC_PR_FGD, np.uint8)
    _mark_background(mask, cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_BGR2Lab), cv2.GC_BGD)
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(pixels, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # a flat picture has no two colour models
        return None
    subject = _large_parts(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    subject = 1 - _large_parts(1 - subject)  # closes small holes
    if not _SUBJECT_SHARE[0] < subject.mean() < _SUBJECT_SHARE[1]:
        return None
    return cv2.GaussianBlur(subject * 255, (3, 3), 0)


def _mark_background(mask: np.ndarray, lab: np.ndarray, background: int) -> None:
    """Marks the pixels of each border that look like some pixel of the other three."""
    band = max(1, round(0.02 * min(mask.shape)))
    sides = (np.s_[:band, :], np.s_[-band:, :], np.s_[:, :band], np.s_[:, -band:])
    samples = [lab[side].reshape(-1, 3)[:: max(1, lab[side].size // 900)] for side in sides]
    for index, side in enumerate(sides):
        others = np.concatenate(samples[:index] + samples[index + 1 :])
        strip = lab[side]
        distance = np.linalg.norm(strip.reshape(-1, 1, 3) - others, axis=-1).min(axis=1).reshape(strip.shape[:2])
        mask[side][distance < _NEAR] = background


def _large_parts(mask: np.ndarray) -> np.ndarray:
    """The 0/1 mask without its small stray parts."""
    import cv2

    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    areas = figures[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # label 0 is what lies outside the mask
    smallest = max(_SPECK_SHARE * areas.max(), _SUBJECT_SHARE[0] * mask.size)
    return (areas >= smallest)[labels].astype(np.uint8)
