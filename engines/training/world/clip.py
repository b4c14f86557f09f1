"""Whole clips from a seed: what is in it, its caption, its frames, its references and the truth about it."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from pydantic import ConfigDict, with_config

from .. import words
from . import captions, pictures, render, sprites
from .motion import Area, Path, make_path
from .references import draw_reference


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Which part of the world to draw from. Sizes in pixels; shares are probabilities."""

    width: int = 96
    height: int = 64
    frames: int = 33
    vocabulary: str = "full"  # small | full
    held_out: bool = False
    subject_shares: tuple[float, float, float, float] = (0.6, 0.4, 0.0, 0.0)  # shape, sprite, emoji, photo cut-out
    two_subjects: float = 0.2
    three_or_four: float = 0.0
    exact_count: int = 0  # 0 = draw the number of subjects
    floor: float = 0.35
    photo_background: float = 0.06
    camera: float = 0.5  # share of photograph backgrounds under a moving camera
    empty_photo: float = 0.0  # clips that show only a photograph
    paraphrase: float = 0.35
    tell_pattern: float = 0.3
    largest: float = 0.3  # subject radius in frame heights
    smallest: float = 0.21
    references: bool = False
    reference_white: float = 0.7
    told_apart: float = 0.0  # share of clips with several subjects whose caption names each by one trait of its picture
    own_motions: bool = False  # no two subjects of a clip move alike


@dataclass(frozen=True, kw_only=True)
class Track:
    """The truth about one subject; arrays run over frames, in pixels."""

    subject: sprites.Subject
    motion: str
    centres: np.ndarray  # [T,2] x, y
    radii: np.ndarray  # [T]

    def boxes(self) -> np.ndarray:
        """[T,4] x0, y0, x1, y1 around the subject's disc."""
        return np.concatenate([self.centres - self.radii[:, None], self.centres + self.radii[:, None]], 1)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One example of the world."""

    frames: np.ndarray  # uint8 [T,H,W,3]
    caption: str
    tracks: tuple[Track, ...]
    background: str
    floor: str | None
    camera: str | None
    masks: np.ndarray | None = None  # float32 [T,H,W], share of each pixel that subjects cover
    references: tuple[np.ndarray, ...] = field(default=())  # uint8 [h,w,3] each, one per subject
    trait: str | None = None  # kind of trait (pattern, colour, shape) by which the caption tells its subjects apart


def _choose_motion(rng: np.random.Generator, subject: sprites.Subject, config: WorldConfig) -> str:
    if config.vocabulary == "small":
        return str(rng.choice(words.SMALL_MOTIONS))
    while True:
        motion = str(rng.choice(words.MOTIONS))
        plain_round = subject.kind == "shape" and subject.shape in ("circle", "ring")
        if not (motion == "spins" and plain_round):
            return motion


def _choose_subject(rng: np.random.Generator, config: WorldConfig, background: str) -> sprites.Subject:
    small = config.vocabulary == "small"
    shapes = words.SMALL_SHAPES if small else words.SHAPES
    allowed = [
        name for name in (words.SMALL_COLOURS if small else words.COLOURS) if (name, background) not in words.CLASHES
    ]
    shares = np.asarray(config.subject_shares) / np.sum(config.subject_shares)
    kind = ("shape", "sprite", "emoji", "photo")[rng.choice(4, p=shares)]
    subject = None
    if kind == "emoji":
        subject = sprites.emoji(rng, held_out=config.held_out)
    elif kind == "photo":
        subject = sprites.cut_out(rng, held_out=config.held_out)
    elif kind == "shape":
        return sprites.flat_shape(rng, colour=str(rng.choice(allowed)), shape=str(rng.choice(shapes)))
    if subject is None:
        look = int(rng.integers(sprites.EVALUATION_LOOKS)) + (sprites.EVALUATION_LOOKS if config.held_out else 0)
        subject = sprites.sprite(look, colour=str(rng.choice(allowed)), shape=str(rng.choice(shapes)))
    return subject


def _cells(rng: np.random.Generator, count: int, aspect: float, ground: float) -> list[Area]:
    """Disjoint areas for `count` subjects in a frame of height 1."""
    margin = 0.03
    if count == 1:
        return [Area(left=margin, right=aspect - margin, top=margin, bottom=ground)]
    edges = np.linspace(margin, aspect - margin, count + 1)
    areas = [Area(left=a, right=b, top=margin, bottom=ground) for a, b in itertools.pairwise(edges)]
    return [areas[index] for index in rng.permutation(count)]


def _several(rng: np.random.Generator, count: int, config: WorldConfig, background: str) -> list[sprites.Subject]:
    """Subjects of one clip; a second try where two would have the same name."""
    subjects: list[sprites.Subject] = []
    for _ in range(count):
        subject = _choose_subject(rng, config, background)
        if any((s.name, s.colour) == (subject.name, subject.colour) for s in subjects):
            subject = _choose_subject(rng, config, background)
        subjects.append(subject)
    return subjects


def _traits(subjects: list[sprites.Subject]) -> list[str]:
    """The kinds of trait that tell these subjects apart, each having its own."""
    kinds = []
    patterns = {subject.pattern for subject in subjects}
    if all(subject.kind == "sprite" for subject in subjects) and not {"plain", "with eyes"} <= patterns:
        kinds.append("pattern")  # a plain sprite may have eyes too
    kinds += [kind for kind in ("colour", "shape") if all(getattr(subject, kind) for subject in subjects)]
    return [kind for kind in kinds if len({getattr(subject, kind) for subject in subjects}) == len(subjects)]


def _clause(
    rng: np.random.Generator,
    subject: sprites.Subject,
    motion: str,
    config: WorldConfig,
    *,
    free: bool,
    trait: str | None = None,
) -> str:
    if trait is not None:
        phrase = captions.trait_phrase(rng, trait, getattr(subject, trait), free=free)
        return f"{phrase} {captions.motion_phrase(rng, motion, free=free)}"
    name, colour, pattern = subject.name, subject.colour, None
    if subject.kind == "sprite" and rng.random() < config.tell_pattern:
        pattern = subject.pattern
    generic = {"shape": 0.0, "sprite": 0.25 if config.references else 0.0, "emoji": 0.55, "photo": 1.0}[subject.kind]
    if rng.random() < generic:
        name = str(rng.choice(words.THINGS))
        if subject.kind == "sprite" and rng.random() < 0.5:
            colour = None
    phrase = captions.subject_phrase(rng, name=name, colour=colour, pattern=pattern, free=free)
    return f"{phrase} {captions.motion_phrase(rng, motion, free=free)}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a clip will show, before anything is drawn."""

    caption: str
    subjects: tuple[sprites.Subject, ...]
    motions: tuple[str, ...]
    paths: tuple[Path, ...]
    background: str
    floor: str | None
    horizon: float
    ground: float
    camera: str | None
    trait: str | None = None


def _radius(rng: np.random.Generator, motion: str, area: Area, count: int, config: WorldConfig) -> float:
    radius = rng.uniform(config.smallest, config.largest)
    vertical = motion in ("moves up", "moves down", "bounces", "falls", "circles around")
    if count > 1:
        radius = min(radius * 0.8, 0.46 * min(area.right - area.left, area.bottom - area.top))
        if motion in ("moves right", "moves left", "circles around"):
            radius = min(radius, 0.32 * (area.right - area.left))
        if vertical:
            radius = min(radius, 0.3 * (area.bottom - area.top))
    elif vertical:
        radius = min(radius, config.smallest + 0.03)
    elif motion in ("grows", "shrinks"):
        radius = rng.uniform(0.32, 0.4)
    return radius


def plan_clip(rng: np.random.Generator, config: WorldConfig) -> Plan:
    """Choose subjects, motions, scene and words."""
    aspect, small = config.width / config.height, config.vocabulary == "small"
    photos = pictures.photographs(held_out=config.held_out) if not small else ()
    empty = bool(photos) and rng.random() < config.empty_photo
    on_photo = empty or (bool(photos) and rng.random() < config.photo_background)
    names = list(words.SMALL_BACKGROUNDS if small else words.BACKGROUNDS)
    background = words.PHOTOGRAPH if on_photo else str(rng.choice(names))
    floor = str(rng.choice(list(words.FLOORS))) if not (on_photo or small) and rng.random() < config.floor else None
    if floor == background:
        floor = None
    horizon, ground = rng.uniform(0.64, 0.74), rng.uniform(0.9, 0.95)
    camera = str(rng.choice(words.CAMERA)) if on_photo and rng.random() < config.camera else None

    count = 0 if empty else 1 + int(rng.random() < config.two_subjects)
    if count and rng.random() < config.three_or_four:
        count = int(rng.integers(3, 5))
    count = config.exact_count or count
    free = rng.random() < config.paraphrase
    subjects, trait = _several(rng, count, config, background), None
    if count > 1 and config.told_apart and rng.random() < config.told_apart:
        while not (kinds := _traits(subjects)):
            subjects = _several(rng, count, config, background)
        trait = str(rng.choice(kinds))

    paths, motions, clauses = [], [], []
    areas = _cells(rng, count, aspect, ground) if count else []
    for subject, area in zip(subjects, areas, strict=True):
        motion = _choose_motion(rng, subject, config)
        while config.own_motions and motion in motions:
            motion = _choose_motion(rng, subject, config)
        radius = _radius(rng, motion, area, count, config)
        tilt = rng.uniform(-0.2, 0.2)
        paths.append(make_path(rng, motion, area=area, radius=radius, tilt=tilt, frames=config.frames))
        motions.append(motion)
        clauses.append(_clause(rng, subject, motion, config, free=free, trait=trait))
    scene = captions.scene_phrase(rng, background=background, floor=floor, free=free)
    return Plan(
        caption=captions.join(rng, clauses, scene="a photograph" if empty else scene, camera=camera, free=free),
        subjects=tuple(subjects),
        motions=tuple(motions),
        paths=tuple(paths),
        background=background,
        floor=floor,
        horizon=horizon,
        ground=ground,
        camera=camera,
        trait=trait,
    )


def generator(seed: int | tuple[int, ...], config: WorldConfig) -> np.random.Generator:
    """The random numbers of a seed; held-out clips never share them with training clips."""
    return np.random.default_rng((*(seed if isinstance(seed, tuple) else (seed,)), int(config.held_out)))


def make_clip(seed: int | tuple[int, ...], config: WorldConfig, *, with_masks: bool = False) -> Clip:
    """The clip of a seed: the same seed and config always give the same pixels and words."""
    rng = generator(seed, config)
    plan = plan_clip(rng, config)
    canvas = _draw_background(rng, plan, config)
    if plan.background != words.PHOTOGRAPH:
        for path in plan.paths:
            render.draw_shadow(canvas, path, ground=plan.ground)
    for subject, path in zip(plan.subjects, plan.paths, strict=True):
        render.draw_subject(canvas, subject.picture, path, pivot=subject.pivot, lit=subject.is_drawn)
    references = ()
    if config.references:
        white, held_out = config.reference_white, config.held_out
        references = tuple(
            draw_reference(rng, subject, radius=float(path.radius.max()), white=white, held_out=held_out)
            for subject, path in zip(plan.subjects, plan.paths, strict=True)
        )
    return Clip(
        frames=np.round(np.clip(canvas, 0, 1) * 255).astype(np.uint8),
        caption=plan.caption,
        tracks=_tracks(plan, config.height),
        background=plan.background,
        floor=plan.floor,
        camera=plan.camera,
        masks=_masks(plan, config) if with_masks else None,
        references=references,
        trait=plan.trait,
    )


def caption_of(seed: int | tuple[int, ...], config: WorldConfig) -> str:
    """Only the words of a seed's clip: nothing is drawn."""
    return plan_clip(generator(seed, config), config).caption


def _draw_background(rng: np.random.Generator, plan: Plan, config: WorldConfig) -> np.ndarray:
    size = {"width": config.width, "height": config.height}
    if plan.background == words.PHOTOGRAPH:
        photos = pictures.photographs(held_out=config.held_out)
        photo = photos[rng.integers(len(photos))]
        views = render.camera_views(rng, photo, camera=plan.camera, frames=config.frames, **size)
        return np.ascontiguousarray(views)
    still = render.flat_background(name=plan.background, floor=plan.floor, horizon=plan.horizon, **size)
    return np.repeat(still[None], config.frames, 0)


def _tracks(plan: Plan, height: int) -> tuple[Track, ...]:
    return tuple(
        Track(
            subject=subject,
            motion=motion,
            centres=np.stack([path.x, path.y], 1) * height,
            radii=path.radius * height,
        )
        for subject, motion, path in zip(plan.subjects, plan.motions, plan.paths, strict=True)
    )


def _masks(plan: Plan, config: WorldConfig) -> np.ndarray:
    covered = np.zeros((config.frames, config.height, config.width, 3), np.float32)
    for subject, path in zip(plan.subjects, plan.paths, strict=True):
        stencil = np.repeat(subject.picture[..., 3:], 4, 2)
        render.draw_subject(covered, np.ascontiguousarray(stencil), path, pivot=subject.pivot, lit=False)
    return np.clip(covered[..., 0], 0, 1)
