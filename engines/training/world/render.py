"""Drawing: anti-aliased sprites on backgrounds, photographs under a moving camera."""

import cv2
import numpy as np

from .. import words
from .motion import Path

SHADOW = 0.34  # of the light is taken away under a subject that rests on the ground


def place(
    frame: np.ndarray, picture: np.ndarray, *, x: float, y: float, radius: float, angle: float, lit: bool = True
) -> None:
    """Composite an RGBA picture into a float32 RGB frame in place; x, y, radius in pixels, angle in radians.

    `lit` shades it by a light from above that does not turn with it.
    """
    side = max(int(np.ceil(2.2 * radius)), 3)
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    reach = radius * 1.45 + 1
    x0, x1 = max(int(x - reach), 0), min(int(x + reach) + 2, frame.shape[1])
    y0, y1 = max(int(y - reach), 0), min(int(y + reach) + 2, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    scale = 2 * radius / 0.92 / side
    cos, sin, middle = np.cos(angle) * scale, np.sin(angle) * scale, (side - 1) / 2
    matrix = np.array(
        [
            [cos, -sin, x - 0.5 - x0 - cos * middle + sin * middle],
            [sin, cos, y - 0.5 - y0 - sin * middle - cos * middle],
        ]
    )
    patch = cv2.warpAffine(small, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    *colours, alpha = cv2.split(patch)  # whole planes: numpy is slow where its innermost axis has three numbers
    if lit:
        across = (np.arange(x0, x1, dtype=np.float32) + 0.5 - x) / radius
        down = (np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - y) / radius
        light = 1.02 - 0.1 * across - 0.2 * down
        gleam = 0.3 * np.exp(-4.5 * (across + 0.35) ** 2) * np.exp(-4.5 * (down + 0.42) ** 2)
        colours = [plane * light for plane in colours]
        colours = [plane + gleam * (alpha - plane) for plane in colours]
    region = frame[y0:y1, x0:x1]
    region *= cv2.merge([1 - alpha] * 3)
    region += cv2.merge(colours)


def cast_shadow(frame: np.ndarray, *, x: float, bottom: float, radius: float, ground: float) -> None:
    """Darken a float32 RGB frame in place under a subject whose lowest point is at `bottom`; lengths in pixels.

    The shadow lies at `ground`; it grows wider and fainter with the height above it.
    """
    height = max(ground - bottom, 0.0) / (2 * radius)
    reach, depth = radius * (0.8 + 0.25 * height), SHADOW / (1 + 1.6 * height)
    y0, y1 = max(int(ground - reach), 0), min(int(ground + reach) + 1, frame.shape[0])
    x0, x1 = max(int(x - 2 * reach), 0), min(int(x + 2 * reach) + 1, frame.shape[1])
    across = (np.arange(x0, x1, dtype=np.float32) + 0.5 - x) / reach
    down = (np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - ground) / (0.28 * reach)
    left = 1 - depth * np.exp(-1.4 * across**2) * np.exp(-1.4 * down**2)
    frame[y0:y1, x0:x1] *= cv2.merge([left] * 3)


def flat_background(*, name: str, floor: str | None, horizon: float, width: int, height: int) -> np.ndarray:
    """One background frame float32 [H,W,3] in 0..1; `horizon` is the floor's top edge as a share of the height.

    Calm light: the wall grows a little darker downwards, the floor a little brighter towards the front.
    """
    rows = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    column = np.asarray(words.BACKGROUNDS[name], np.float32) / 255.0 * (1.04 - 0.1 * rows)
    if floor is not None:
        share = np.clip(np.arange(height, dtype=np.float32) + 1 - horizon * height, 0, 1)[:, None]
        near = (rows - horizon) / (1 - horizon)
        column = column * (1 - share) + share * np.asarray(words.FLOORS[floor], np.float32) / 255.0 * (
            0.9 + 0.14 * near
        )
    return np.ascontiguousarray(np.broadcast_to(column[:, None], (height, width, 3)), np.float32)


def camera_views(
    rng: np.random.Generator, photo: np.ndarray, *, camera: str | None, width: int, height: int, frames: int
) -> np.ndarray:
    """Views [T,H,W,3] float32 in 0..1 of a photograph; without a camera word the view is still."""
    u = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    tall, wide = photo.shape[:2]
    window = min(wide, tall * width / height) * rng.uniform(0.42, 0.72)  # width of the view in photo pixels
    windows = np.full(frames, window)
    if camera in ("zooms in", "zooms out"):
        windows = window * rng.uniform(1.3, 1.45) ** (u if camera == "zooms out" else u[::-1])
    half_w, half_h = windows.max() / 2, windows.max() / 2 * height / width
    dx, dy = {"pans left": (-1, 0), "pans right": (1, 0), "pans up": (0, -1), "pans down": (0, 1)}.get(camera, (0, 0))
    travel = window * rng.uniform(0.3, 0.55)
    tx = dx * min(travel, wide - 2 * half_w)
    ty = dy * min(travel, tall - 2 * half_h)
    cx = rng.uniform(half_w - min(tx, 0), max(wide - half_w - max(tx, 0), half_w - min(tx, 0) + 1e-6)) + tx * u
    cy = rng.uniform(half_h - min(ty, 0), max(tall - half_h - max(ty, 0), half_h - min(ty, 0) + 1e-6)) + ty * u
    flip, order = rng.random() < 0.5, rng.permutation(3) if rng.random() < 0.25 else np.arange(3)
    gain, offset = rng.uniform(0.75, 1.2), rng.uniform(-0.08, 0.08)
    base = photo[..., order].astype(np.float32) / 255.0
    # Shrink once to about view resolution: sampling the full picture would alias.
    shrink = min(1.0, width / windows.min())
    if shrink < 1:
        base = cv2.resize(base, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    base = np.clip(base * gain + offset, 0, 1)
    views = np.empty((frames, height, width, 3), np.float32)
    for index in range(frames):
        step = windows[index] * shrink / width
        matrix = np.array(
            [
                [step, 0, (cx[index] - windows[index] / 2) * shrink],
                [0, step, (cy[index] - windows[index] * height / width / 2) * shrink],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(base, matrix, (width, height), views[index], flags=flags, borderMode=cv2.BORDER_REFLECT)
    return views[:, :, ::-1] if flip and camera not in ("pans left", "pans right") else views


def draw_shadow(frames: np.ndarray, path: Path, *, ground: float) -> None:
    """Lay one subject's soft shadow on the ground (a share of the height) in float32 frames [T,H,W,3], in place."""
    height = frames.shape[1]
    for index, frame in enumerate(frames):
        radius = path.radius[index] * height
        bottom = path.y[index] * height + 0.86 * radius
        cast_shadow(frame, x=path.x[index] * height, bottom=bottom, radius=radius, ground=ground * height)


def draw_subject(frames: np.ndarray, picture: np.ndarray, path: Path, *, pivot: float = 0.0, lit: bool = True) -> None:
    """Composite one subject along its path into float32 frames [T,H,W,3] in place.

    It turns about a point that lies `pivot` radii below its centre.
    """
    height = frames.shape[1]
    for index, frame in enumerate(frames):
        radius, angle = path.radius[index] * height, path.angle[index]
        place(
            frame,
            picture,
            x=path.x[index] * height + pivot * radius * np.sin(angle),
            y=path.y[index] * height + pivot * radius * (1 - np.cos(angle)),
            radius=radius,
            angle=path.angle[index],
            lit=lit,
        )
