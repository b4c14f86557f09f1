"""Drawing: anti-aliased sprites on backgrounds, photographs under a moving camera."""

import cv2
import numpy as np

from . import words
from .motion import Path


def place(frame: np.ndarray, picture: np.ndarray, *, x: float, y: float, radius: float, angle: float) -> None:
    """Composite an RGBA picture into a float32 RGB frame in place; x, y, radius in pixels, angle in radians."""
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
    region = frame[y0:y1, x0:x1]
    region *= 1 - patch[..., 3:]
    region += patch[..., :3]


def flat_background(*, name: str, floor: str | None, horizon: float, width: int, height: int) -> np.ndarray:
    """One background frame float32 [H,W,3] in 0..1; `horizon` is the floor's top edge as a share of the height."""
    frame = np.empty((height, width, 3), np.float32)
    frame[:] = np.asarray(words.BACKGROUNDS[name], np.float32) / 255.0
    if floor is not None:
        edge = horizon * height
        rows = np.clip(np.arange(height) + 1 - edge, 0, 1)[:, None, None].astype(np.float32)
        frame = frame * (1 - rows) + rows * (np.asarray(words.FLOORS[floor], np.float32) / 255.0)
    return frame


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


def draw_subject(frames: np.ndarray, picture: np.ndarray, path: Path) -> None:
    """Composite one subject along its path into float32 frames [T,H,W,3] in place."""
    height = frames.shape[1]
    for index, frame in enumerate(frames):
        place(
            frame,
            picture,
            x=path.x[index] * height,
            y=path.y[index] * height,
            radius=path.radius[index] * height,
            angle=path.angle[index],
        )
