"""The evaluations of the starter models: which cases, which measures, which targets."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from engines.bindweave import spec as bindweave
from engines.phantom_physics.spec import STARTER_FILE
from engines.pyramid_flow.spec import trained_sizes
from engines.training.data import fit_on_canvas
from engines.training.files import read_facts
from engines.training.latents import to_levels, to_unit
from engines.training.recipes import physics_encoder, pyramid_flow
from engines.training.recipes.pyramid_vae import FILE as PYRAMID_VAE
from engines.training.recipes.vae import FILE as WAN_VAE
from engines.training.sample import Settings, load_pyramid_vae, load_starter, load_vae, sample
from engines.training.world import make_clip
from engines.wan.starter import FIRST_VAE

from . import cases, scores
from .figures import Figure, share

log = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "starter"
WARM_TARGET, COLD_TARGET = 10.0, 30.0  # seconds, on two cores
MEGABYTES_TARGET = 15.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line may change: number of cases (0 = each evaluation's own) and the files."""

    count: int = 0
    folder: Path = ASSETS
    transformer: Path | None = None  # instead of the folder's
    vae: Path | None = None  # the same
    device: str = "cpu"  # where an engine makes its clips


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Figures, how they were measured, and the clips for a contact sheet."""

    figures: list[Figure]
    facts: dict[str, Any]
    clips: list[np.ndarray]
    references: list[list[np.ndarray]] | None = None


def _size(folder: Path, *files: Path) -> Figure:
    """All that an engine reads: these files, and what reads the prompt."""
    read = {*files, folder / "text_encoder.safetensors", *(folder / "tokenizer").glob("*")}
    total = sum(file.stat().st_size for file in read)
    return Figure(name="size of its files", value=total / 1e6, unit="MB", target=MEGABYTES_TARGET, lower=True)


def _vae_file(options: Options, transformer: Path) -> Path:
    """The autoencoder that a network says it was trained on."""
    return options.vae or options.folder / read_facts(transformer).get("vae", FIRST_VAE)


def evaluate_vae(options: Options) -> Outcome:
    """Round trip of the VAE over held-out world clips, inside their objects, and over photographs."""
    vae = load_vae(options.vae or options.folder / WAN_VAE)
    return _round_trips(options, "wan-vae", lambda frames: round_trip(vae, frames))


def evaluate_pyramid_vae(options: Options) -> Outcome:
    """The same of Pyramid Flow's autoencoder, at the size of its clips."""
    vae = load_pyramid_vae(options.vae or options.folder / PYRAMID_VAE)

    @torch.inference_mode()
    def there_and_back(frames: np.ndarray) -> np.ndarray:
        latents = vae.encode(to_unit(frames)[None], {}).chunk(2, dim=1)[0]
        return to_levels(vae.decode(latents, {}))[0]

    size = {name: getattr(pyramid_flow.FULL, name) for name in ("width", "height")}
    return _round_trips(options, "pyramid-vae", there_and_back, **size)


def _round_trips(
    options: Options, name: str, there_and_back: Callable[[np.ndarray], np.ndarray], **size: int
) -> Outcome:
    count = options.count or 40
    world, inside, photos, made = [], [], [], []
    worlds = [dataclasses.replace(config, **size) for config in (cases.VAE_WORLD, cases.PHOTO_WORLD)]
    for index in tqdm(range(count), desc=name, disable=None):
        for config, into in zip(worlds, (world, photos), strict=True):
            clip = make_clip((cases.VAE_SEED, index), config, with_masks=True)
            back = there_and_back(clip.frames)
            into.append(scores.decibels(clip.frames, back))
            if clip.tracks:
                inside.append(scores.decibels(clip.frames, back, clip.masks > 0.5))
            if index < 4:
                made += [clip.frames, back]
    figures = [
        Figure(name="PSNR world", value=float(np.mean(world)), unit="dB", target=30.0),
        Figure(name="PSNR inside objects", value=float(np.mean(inside)), unit="dB", target=24.0),
        Figure(name="PSNR photographs", value=float(np.mean(photos)), unit="dB", target=26.0),
    ]
    return Outcome(figures=figures, facts={"clips": count, **size}, clips=made)


def round_trip(vae: Any, frames: np.ndarray) -> np.ndarray:
    """Encode and decode uint8 frames [T,H,W,3]."""
    with torch.inference_mode():
        latents = vae.encode(to_unit(frames)[None]).latent_dist.mode()
        return to_levels(vae.decode(latents).sample)[0]


def evaluate_text_to_video(options: Options) -> Outcome:
    """Words of held-out captions, one flat subject, the whole vocabulary."""
    starter = load_starter(options.folder, transformer=options.transformer or "wan_t2v.safetensors")
    count, batch = options.count or 64, 8
    clips = [make_clip((cases.TEXT_SEED, index), cases.TEXT_WORLD) for index in range(count)]
    made: list[np.ndarray] = []
    for start in tqdm(range(0, count, batch), desc="wan-t2v", disable=None):
        prompts = [clip.caption for clip in clips[start : start + batch]]
        made += list(sample(starter, prompts, settings=Settings(), seed=start))
    hits = [scores.text_hits(scores.look(video), clip) for video, clip in zip(made, clips, strict=True)]
    targets = {"colour": 98.0, "background": 98.0, "shape": 92.0, "motion": 92.0, "floor": None}
    figures = [share(f"{name} right", [hit[name] for hit in hits], target=goal) for name, goal in targets.items()]
    return Outcome(figures=figures, facts={"clips": count, "settings": dataclasses.asdict(Settings())}, clips=made)


def evaluate_phantom(options: Options) -> Outcome:
    """Held-out subjects through the product's own engine: identity, motion, pasting."""
    from .product import Product

    product = Product("phantom-wan", folder=options.folder, transformer=options.transformer, device=options.device)
    transformer = options.transformer or options.folder / "wan_t2v.safetensors"
    one = cases.cases(cases.ONE_SEED, options.count or 40, cases.ONE_WORLD)
    two = cases.cases(cases.TWO_SEED, max(1, (options.count or 40) // 2), cases.TWO_WORLD)
    made, shown = [], []
    for index, case in enumerate(tqdm([*one, *two], desc="phantom-wan", disable=None)):
        made.append(product.make(case.clip.caption, case.clip.references, seed=index))
        shown.append(list(case.clip.references))
    single, double = made[: len(one)], made[len(one) :]
    hits_two = [scores.reference_hits(video, case) for video, case in zip(double, two, strict=True)]
    size = {"width": single[0].shape[2], "height": single[0].shape[1]}
    paste = [
        scores.pasted(video, fit_on_canvas(case.clip.references[0], **size))
        for video, case in zip(single, one, strict=True)
    ]
    moves = [scores.motion_right(video, case.clip) for video, case in zip(single, one, strict=True)]
    figures = [
        share(
            "right reference of 8, one subject",
            [scores.reference_hits(video, case)[0] for video, case in zip(single, one, strict=True)],
            target=90.0,
        ),
        share("right reference of 8, two subjects", [hit for hits in hits_two for hit in hits], target=80.0),
        share("motion right", moves, target=80.0),
        share("pasted at the reference's place", paste, target=10.0, lower=True),
        _size(options.folder, transformer, _vae_file(options, transformer)),
    ]
    facts = {"one_subject": len(one), "two_subjects": len(two), "defaults": dict(product.model.defaults)}
    return Outcome(figures=figures, facts=facts, clips=made, references=shown)


def evaluate_flashi2v(options: Options) -> Outcome:
    """Held-out pictures through the product's own engine, against the real clips that begin with them."""
    from . import picture_clips
    from .product import Product

    product = Product("flashi2v", folder=options.folder, transformer=options.transformer, device=options.device)
    transformer = options.transformer or options.folder / "flashi2v.safetensors"
    vae = load_vae(_vae_file(options, transformer))
    objects, photos = picture_clips.held_out(options.count or 40)
    pairs, round_trips = [], []
    for index, clip in enumerate(tqdm([*objects, *photos], desc="flashi2v", disable=None)):
        video = product.make(clip.caption, (clip.frames[0],), seed=index)
        pairs.append(scores.Pair(real=clip, made=video))
        round_trips.append(picture_clips.round_trip_psnr(vae, clip.frames[0]))
    figures, curves = picture_clips.measured(pairs[: len(objects)], pairs[len(objects) :], round_trips)
    figures.append(_size(options.folder, transformer, _vae_file(options, transformer)))
    facts = {
        "variant": read_facts(transformer)["config"]["variant"],
        "objects": len(objects),
        "photographs": len(photos),
        "defaults": dict(product.model.defaults),
        "curves": curves,
    }
    shown = [[pair.real.frames[0]] for pair in pairs]
    return Outcome(figures=figures, facts=facts, clips=[pair.made for pair in pairs], references=shown)


def evaluate_bindweave(options: Options) -> Outcome:
    """Several subjects, each with its own motion, through the product's own engine, and by Phantom's starter."""
    from . import own_motions
    from .product import Product

    count = options.count or 40
    two, three = own_motions.requests(count), own_motions.requests(max(1, count // 4), three=True)
    files = {"folder": options.folder, "device": options.device}
    model = bindweave.starter(options.folder)
    product = Product("bindweave", model=model, transformer=options.transformer, **files)
    made, says = [], []
    for index, request in enumerate(tqdm([*two, *three], desc="bindweave", disable=None)):
        made.append(product.make(request.clip.caption, request.pictures, seed=index))
        says += own_motions.says_right(product, request, [Image.fromarray(picture) for picture in request.pictures])
    other = Product("phantom-wan", **files)
    others = [
        other.make(request.clip.caption, request.pictures, seed=index)
        for index, request in enumerate(tqdm(two, desc="phantom-wan", disable=None))
    ]

    def right(name: str, videos: list[np.ndarray], asked: list[own_motions.Request], **told: float) -> Figure:
        pairs = zip(videos, asked, strict=False)
        return share(name, [hit for video, one in pairs for hit in own_motions.moves_right(video, one.clip)], **told)

    compared = right("the same of Phantom's starter", others, two)
    pairs = zip(made, two, strict=False)
    hits = [hit for video, one in pairs for hit in scores.reference_hits(video, one.case)]
    figures = [
        right("two subjects, each with its own motion", made, two, target=max(75.0, compared.value)),
        compared,
        right("three subjects, each with its own motion", made[len(two) :], three),
        share("right reference of 8, two subjects", hits),
        share("pictures whose motion its multimodal model says", says),
        _size(options.folder, *(options.folder.parent / name for part in model.weights for name in part.files)),
    ]
    facts = {"two_subjects": len(two), "three_subjects": len(three), "defaults": dict(model.defaults)}
    shown = [list(request.pictures) for request in (*two, *three)]
    return Outcome(figures=figures, facts=facts, clips=made, references=shown)


def evaluate_pyramid(options: Options, *, model: str = "starter") -> Outcome:
    """Held-out captions and first pictures of four seconds through the product's own engine."""
    from . import long_clips
    from .product import Product

    files = {"folder": options.folder, "transformer": options.transformer}
    product = Product("pyramid-flow", model=model, device=options.device, **files)
    context = product.session.context(product.spec.name, product.model)
    width, height = trained_sizes(read_facts(context.paths("transformer")[0]))[0]
    written, pictured = long_clips.held_out(options.count or 40, width=width, height=height)
    pairs = []
    for index, clip in enumerate(tqdm([*written, *pictured], desc=f"pyramid-flow {model}", disable=None)):
        given = (clip.frames[0],) if index >= len(written) else ()
        pairs.append(
            scores.Pair(real=clip, made=product.make(clip.caption, given, seed=index, width=width, height=height))
        )
    figures = long_clips.measured(pairs[: len(written)], pairs[len(written) :])
    figures.append(_size(options.folder, *context.paths("transformer"), *context.paths("vae")))
    defaults = {**product.model.defaults, "width": width, "height": height}
    facts = {"from_text": len(written), "from_pictures": len(pictured), "defaults": defaults}
    shown = [[pair.real.frames[0]] for pair in pairs]
    return Outcome(figures=figures, facts=facts, clips=[pair.made for pair in pairs], references=shown)


def evaluate_physics_encoder(options: Options) -> Outcome:
    """What the small V-JEPA 2 of Phantom-physics knows of scenes."""
    from . import physics_starter

    count = options.count or 40
    file = options.transformer or options.folder / physics_encoder.FILE
    figures = physics_starter.measure_encoder(file, count=count)
    return Outcome(figures=figures, facts={"clips": count}, clips=[])


def evaluate_physics(options: Options) -> Outcome:
    """Held-out scenes gone on from five frames, against their exact simulation."""
    from . import physics_starter

    count = options.count or 48
    transformer = options.transformer or options.folder / STARTER_FILE
    figures, made = physics_starter.measure_clips(options.folder, transformer, count=count, device=options.device)
    figures.append(_size(options.folder, transformer, _vae_file(options, transformer)))
    return Outcome(figures=figures, facts={"clips": 2 * count}, clips=made)


def evaluate_speed(options: Options) -> Outcome:
    """The default clip of every engine: warm, and from the start of a process."""
    from . import speed

    figures: list[Figure] = []
    for engine in tqdm(speed.ENGINES, desc="speed", disable=None):
        figures += [
            Figure(
                name=f"{engine}, default clip, warm",
                value=speed.warm_seconds(engine, repeats=options.count or 3),
                unit="s",
                target=WARM_TARGET,
                lower=True,
            ),
            Figure(
                name=f"{engine}, default clip from process start",
                value=speed.cold_seconds(engine),
                unit="s",
                target=COLD_TARGET,
                lower=True,
            ),
        ]
    return Outcome(figures=figures, facts={"cores": os.cpu_count()}, clips=[])


EVALUATIONS: dict[str, Callable[[Options], Outcome]] = {
    "wan-vae": evaluate_vae,
    "pyramid-vae": evaluate_pyramid_vae,
    "wan-t2v": evaluate_text_to_video,
    "phantom-wan": evaluate_phantom,
    "flashi2v": evaluate_flashi2v,
    "bindweave": evaluate_bindweave,
    "pyramid-flow": evaluate_pyramid,
    "pyramid-flow-sd3": partial(evaluate_pyramid, model="starter-sd3"),
    "physics-encoder": evaluate_physics_encoder,
    "phantom-physics": evaluate_physics,
    "speed": evaluate_speed,
}


AUTOENCODERS = ("wan-vae", "pyramid-vae")


def evaluate(name: str, options: Options) -> Outcome:
    """Run one evaluation; facts say when and on what."""
    began = time.monotonic()
    outcome = EVALUATIONS[name](options)
    facts = {**outcome.facts, "took_s": round(time.monotonic() - began, 1)}
    return dataclasses.replace(outcome, facts=facts)
