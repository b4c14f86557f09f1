"""Six exact simulators of coloured discs, and how their clips are drawn: the world of the physics benchmark.

64x64 pixels, 33 frames, gravity 0.8 px/frame^2, floor at y = 58, y downwards. Between events (contact with the floor,
the collision) motion is a closed formula; events are solved for their exact moment inside a frame. The pendulum has no
elementary formula: it is integrated finely enough to be exact to 1e-6 px.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..scene_words import CAPTIONS

SIDE, FRAMES, GIVEN = 64, 33, 5
GRAVITY, FLOOR = 0.8, 58.0
PIVOT = (32.0, 8.0)
SUPERSAMPLING = 4
_RK4_STEPS = 8  # inside one frame
_HALF_LINE = 0.6  # px
_AT_REST = 0.05  # px/frame: a bounce slower than this is none

GROUND, GREY = np.array([24, 24, 26]) / 255, np.array([92, 92, 94]) / 255
COLOURS = {"red": np.array([224, 58, 48]) / 255, "blue": np.array([48, 92, 224]) / 255}

# Whether a scene's parameters come from the range that models are trained on, or from beside it.
Split = Literal["inside", "outside"]


@dataclass(frozen=True)
class Disc:
    """A disc of `colour`; its mass is its radius squared."""

    colour: str
    radius: float

    @property
    def mass(self) -> float:
        """In units of a disc of radius 1."""
        return self.radius**2


@dataclass(frozen=True)
class Scene:
    """One simulated clip.

    Attributes:
        name: which of SCENES.
        centres: of every disc in every frame, [T,n,2] as (x, y) in pixels.
        caption: one sentence that says what happens.
        contacts: moments at which a disc touches the floor or another, in frames; `rests` from then on, if it does.
        law: what the scene's law needs: length, angle, ...
        lines: grey lines drawn behind the discs in every frame, (x0, y0, x1, y1); a pendulum's rod is drawn by itself.
    """

    name: str
    discs: tuple[Disc, ...]
    centres: np.ndarray
    caption: str
    contacts: tuple[float, ...] = ()
    rests: float = np.inf
    law: dict[str, float] = field(default_factory=dict)
    lines: tuple[tuple[float, float, float, float], ...] = ()

    def in_view(self) -> np.ndarray:
        """Whether every disc lies wholly in the picture, bool [T]."""
        radii = np.array([disc.radius for disc in self.discs])[:, None]
        return ((self.centres >= radii) & (self.centres <= SIDE - radii)).all((1, 2))

    def frames(self, centres: np.ndarray | None = None) -> np.ndarray:
        """The clip drawn, uint8 [T,64,64,3]; with its discs at other `centres` if given."""
        centres = self.centres if centres is None else centres
        behind = np.broadcast_to(GROUND, (SIDE, SIDE, 3)).copy()
        for line in self.lines:
            _draw_line(behind, *line)
        return np.stack([self._frame(places, behind) for places in centres])

    def _frame(self, places: np.ndarray, behind: np.ndarray) -> np.ndarray:
        picture = behind.copy()
        if self.name == "pendulum":
            _draw_line(picture, *PIVOT, *places[0])
        for disc, (cx, cy) in zip(self.discs, places, strict=True):
            _draw_disc(picture, cx, cy, disc)
        return (picture * 255 + 0.5).astype(np.uint8)


FLOOR_LINE = ((0.0, FLOOR, float(SIDE), FLOOR),)


def make_scene(name: str, seed: tuple[int, ...] | int, *, split: Split = "inside") -> Scene:
    """The scene `name` with parameters drawn from `seed`; raises KeyError for a name not in SCENES."""
    return SCENES[name](np.random.default_rng(seed), split)


def free_fall(rng: np.random.Generator, split: Split) -> Scene:
    """A disc falls and stays where it lands."""
    disc, x, y, speed = _thrown_up(rng, split)
    heights, contacts, rests = _flight(y, speed, restitution=0.0, floor=FLOOR - disc.radius)
    caption = CAPTIONS["free fall"].format(colour=disc.colour)
    return Scene("free fall", (disc,), _track(np.full(FRAMES, x), heights), caption, contacts, rests, lines=FLOOR_LINE)


def bounce(rng: np.random.Generator, split: Split) -> Scene:
    """A disc falls and bounces."""
    disc, x, y, speed = _thrown_up(rng, split)
    restitution = _draw(rng, split, (0.5, 0.9), ((0.35, 0.5), (0.9, 0.97)))
    heights, contacts, rests = _flight(y, speed, restitution=restitution, floor=FLOOR - disc.radius)
    caption = CAPTIONS["bounce"].format(colour=disc.colour)
    centres = _track(np.full(FRAMES, x), heights)
    return Scene("bounce", (disc,), centres, caption, contacts, rests, {"restitution": restitution}, FLOOR_LINE)


def projectile(rng: np.random.Generator, split: Split) -> Scene:
    """A disc is thrown to the right and up, flies, and bounces on."""
    disc = _disc(rng, split)
    x, y = rng.uniform(disc.radius + 1, disc.radius + 8), rng.uniform(34, FLOOR - disc.radius - 1)
    across = _draw(rng, split, (0.8, 1.3), ((0.5, 0.8), (1.3, 1.6)))
    highest = np.sqrt(2 * GRAVITY * (y - disc.radius - 1))
    up = rng.uniform(0.7, 0.98) * highest
    heights, contacts, rests = _flight(y, -up, restitution=0.75, floor=FLOOR - disc.radius)
    caption = CAPTIONS["projectile"].format(colour=disc.colour)
    centres = _track(x + across * np.arange(FRAMES), heights)
    return Scene("projectile", (disc,), centres, caption, contacts, rests, lines=FLOOR_LINE)


def pendulum(rng: np.random.Generator, split: Split) -> Scene:
    """A disc on a rod is let go and swings from a pivot."""
    while True:
        disc = _disc(rng, split)
        length = rng.uniform(20, 36)
        amplitude = _draw(rng, split, (0.4, 0.9), ((0.25, 0.4), (0.9, 1.1)))
        if length * np.sin(amplitude) + disc.radius < SIDE / 2 - 0.5:
            break
    angles = _swing(amplitude * rng.choice((-1, 1)), length)
    centres = _track(PIVOT[0] + length * np.sin(angles), PIVOT[1] + length * np.cos(angles))
    caption = CAPTIONS["pendulum"].format(colour=disc.colour)
    return Scene("pendulum", (disc,), centres, caption, law={"length": length})


def collision(rng: np.random.Generator, split: Split) -> Scene:
    """Two discs meet head on without loss; no gravity."""
    while True:
        red, blue = Disc("red", _radius(rng, split)), Disc("blue", _radius(rng, split))
        y, reach = rng.uniform(20, 44), red.radius + blue.radius
        left, right = rng.uniform(red.radius + 2, 22), rng.uniform(42, SIDE - blue.radius - 2)
        speeds = np.array([_draw(rng, split, (0.9, 1.5), ((0.7, 0.9), (1.5, 2.0))), -rng.uniform(0.2, 0.9)])
        meet = (right - left - reach) / (speeds[0] - speeds[1])
        if meet > GIVEN + 2:  # what is given shows no collision
            break
    total = red.mass + blue.mass
    common = (red.mass * speeds[0] + blue.mass * speeds[1]) / total
    after = 2 * common - speeds
    times = np.arange(FRAMES)[:, None]
    before_x = np.array([left, right]) + speeds * times
    after_x = np.array([left, right]) + speeds * meet + after * (times - meet)
    x = np.where(times < meet, before_x, after_x)
    centres = np.stack([x, np.full_like(x, y)], axis=-1)
    caption = CAPTIONS["collision"]
    return Scene("collision", (red, blue), centres, caption, (float(meet),))


def incline(rng: np.random.Generator, split: Split) -> Scene:
    """A sphere rolls down a slope without slipping: acceleration 5/7 g sin(angle)."""
    disc = _disc(rng, split)
    angle = _draw(rng, split, (0.12, 0.26), ((0.07, 0.12), (0.26, 0.36)))
    along = np.array([np.cos(angle), np.sin(angle)])
    normal = np.array([np.sin(angle), -np.cos(angle)])
    start = np.array([rng.uniform(disc.radius + 1, disc.radius + 6), rng.uniform(disc.radius + 6, 26)])
    acceleration = 5 / 7 * GRAVITY * np.sin(angle)
    way = 0.5 * acceleration * np.arange(FRAMES) ** 2
    foot = start - normal * disc.radius
    ends = (*(foot - 80 * along), *(foot + 80 * along))
    caption = CAPTIONS["incline"].format(colour=disc.colour)
    law = {"angle": angle, "acceleration": acceleration, "foot_x": foot[0], "foot_y": foot[1]}
    centres = (start + way[:, None] * along)[:, None]
    return Scene("incline", (disc,), centres, caption, law=law, lines=(ends,))


SCENES: dict[str, Callable[[np.random.Generator, Split], Scene]] = {
    "free fall": free_fall,
    "bounce": bounce,
    "projectile": projectile,
    "pendulum": pendulum,
    "collision": collision,
    "incline": incline,
}


def frozen(scene: Scene) -> np.ndarray:
    """The clip that stops with its last given frame, uint8 [T,64,64,3]."""
    frames = scene.frames()
    frames[GIVEN:] = frames[GIVEN - 1]
    return frames


def constant_velocity(scene: Scene) -> np.ndarray:
    """The clip whose discs go on as in the last two given frames, uint8 [T,64,64,3]."""
    centres = scene.centres.copy()
    speed = centres[GIVEN - 1] - centres[GIVEN - 2]
    later = np.arange(1, FRAMES - GIVEN + 1)[:, None, None]
    centres[GIVEN:] = centres[GIVEN - 1] + later * speed
    return scene.frames(centres)


def _draw(
    rng: np.random.Generator, split: Split, inside: tuple[float, float], outside: tuple[tuple[float, float], ...]
) -> float:
    """A number of the training range, or of one of the ranges beside it."""
    low, high = inside if split == "inside" else outside[int(rng.integers(len(outside)))]
    return float(rng.uniform(low, high))


def _radius(rng: np.random.Generator, split: Split) -> float:
    return _draw(rng, split, (4.0, 7.0), ((3.0, 4.0), (7.0, 8.5)))


def _disc(rng: np.random.Generator, split: Split) -> Disc:
    return Disc(str(rng.choice(list(COLOURS))), _radius(rng, split))


def _thrown_up(rng: np.random.Generator, split: Split) -> tuple[Disc, float, float, float]:
    """A disc near the top with a small speed upwards: (disc, x, y, vertical speed)."""
    disc = _disc(rng, split)
    x = rng.uniform(disc.radius + 1, SIDE - disc.radius - 1)
    return disc, x, rng.uniform(disc.radius + 2.5, disc.radius + 8), -rng.uniform(0, 1.5)


def _track(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y], axis=-1)[:, None]


def _flight(
    height: float, speed: float, *, restitution: float, floor: float
) -> tuple[np.ndarray, tuple[float, ...], float]:
    """Heights [T] of a ball above `floor` (y downwards), its contacts in frames, and when it comes to rest."""
    heights, contacts, began = np.full(FRAMES, floor), [], 0.0
    while began < FRAMES:
        lands = began + (-speed + np.sqrt(speed**2 + 2 * GRAVITY * (floor - height))) / GRAVITY
        times = np.arange(FRAMES)
        flying = (times >= began) & (times < lands)
        heights[flying] = height + speed * (times[flying] - began) + GRAVITY / 2 * (times[flying] - began) ** 2
        contacts.append(float(lands))
        speed = -restitution * (speed + GRAVITY * (lands - began))
        height, began = floor, lands
        if abs(speed) < _AT_REST:
            return heights, tuple(contacts), float(lands)
    return heights, tuple(contacts), np.inf


def _swing(amplitude: float, length: float) -> np.ndarray:
    """Angles [T] of a pendulum let go at `amplitude` in the first frame; 0 hangs, in radians."""
    step = 1 / _RK4_STEPS

    def slope(state: np.ndarray) -> np.ndarray:
        return np.array([state[1], -GRAVITY / length * np.sin(state[0])])

    def advance(state: np.ndarray, span: float) -> np.ndarray:
        a = slope(state)
        b = slope(state + span / 2 * a)
        c = slope(state + span / 2 * b)
        d = slope(state + span * c)
        return state + span / 6 * (a + 2 * b + 2 * c + d)

    state = np.array([amplitude, 0.0])
    angles = []
    for _ in range(FRAMES):
        angles.append(state[0])
        for _ in range(_RK4_STEPS):
            state = advance(state, step)
    return np.array(angles)


def _draw_disc(picture: np.ndarray, cx: float, cy: float, disc: Disc) -> None:
    """Composites an anti-aliased disc into float [64,64,3] in place."""
    x0, x1 = (int(np.clip(np.floor(side), 0, SIDE)) for side in (cx - disc.radius, cx + disc.radius + 1))
    y0, y1 = (int(np.clip(np.floor(side), 0, SIDE)) for side in (cy - disc.radius, cy + disc.radius + 1))
    if x0 >= x1 or y0 >= y1:
        return
    x, y = _points(x0, x1)[None, :], _points(y0, y1)[:, None]
    share = _cells((x - cx) ** 2 + (y - cy) ** 2 <= disc.radius**2)[..., None]
    picture[y0:y1, x0:x1] += share * (COLOURS[disc.colour] - picture[y0:y1, x0:x1])


def _draw_line(picture: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> None:
    """Composites a grey segment of 1.2 px into float [64,64,3] in place."""
    left, right, top, bottom = (
        int(np.clip(np.floor(side), 0, SIDE))
        for side in (
            min(x0, x1) - _HALF_LINE,
            max(x0, x1) + _HALF_LINE + 1,
            min(y0, y1) - _HALF_LINE,
            max(y0, y1) + _HALF_LINE + 1,
        )
    )
    x, y = _points(left, right)[None, :], _points(top, bottom)[:, None]
    length = (x1 - x0) ** 2 + (y1 - y0) ** 2
    along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
    near = (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2 <= _HALF_LINE**2
    picture[top:bottom, left:right] += _cells(near)[..., None] * (GREY - picture[top:bottom, left:right])


def _points(first: int, last: int) -> np.ndarray:
    """Coordinates of the sampling points of pixels first to last."""
    return first + (np.arange((last - first) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING


def _cells(inside: np.ndarray) -> np.ndarray:
    """Sampling points [4h,4w] -> share of each pixel that is covered [h,w]."""
    height, width = (side // SUPERSAMPLING for side in inside.shape)
    return inside.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING).mean((1, 3))
