"""Phantom-physics on a tiny model: what a clip begins with, the branch that does not run, what is said and refused."""

import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint, InvalidRequest, MissingWeights
from engines.events import Note, Stage
from engines.loading.store import Store
from engines.media.video import VideoWriter
from engines.phantom_physics.checkpoint import SETTINGS
from engines.phantom_physics.engine import PhantomPhysics, beginning
from engines.phantom_physics.sampling import Latents, denoise
from engines.phantom_physics.spec import NO_PUBLIC_WEIGHTS, PhantomPhysicsRequest, resolved_shift
from engines.registry import SPECS
from engines.sampling.denoise import unipc
from engines.training.world.physics import make_scene
from engines.types import Frames, LatentStep, Measured
from engines.validation import build_request
from studio import models
from tests.engines import tiny_physics, tiny_wan
from tests.engines.tiny_models import TINY
from tests.engines.tiny_wan import CountingContext

SPEC = TINY["phantom-physics"].spec
STEPS = 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    return tiny_physics.write_model(tmp_path_factory.mktemp("model"))


def context_of(files: dict[str, tuple[Path, ...]]) -> CountingContext:
    context = CountingContext(files)
    model = SPEC.model("tiny")
    context.model = replace(model, weights=tuple(w for w in model.weights if w.role in files))
    return context


@pytest.fixture
def context(files: dict[str, tuple[Path, ...]]) -> CountingContext:
    return context_of(files)


def request(**changes: Any) -> PhantomPhysicsRequest:
    return build_request(SPEC, SPEC.default_values("tiny") | changes)


def run(context: CountingContext, **changes: Any) -> list[Any]:
    return list(PhantomPhysics().generate(request(**changes), context))


def video(items: list[Any]) -> np.ndarray:
    return np.concatenate([item.pixels for item in items if isinstance(item, Frames)])


def notes(items: list[Any]) -> list[str]:
    return [item.message for item in items if isinstance(item, Note)]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.linear_gradient("L").resize((200, 120)).convert("RGB").save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture(scope="module")
def bounce(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated clip of 33 frames, 24 a second, 64x64."""
    path = tmp_path_factory.mktemp("clips") / "bounce.mp4"
    writer = VideoWriter(path, fps=24, tags={}, crf=4)
    writer.write(make_scene("bounce", 1).frames())
    writer.close()
    return path


# The branch


def test_a_run_with_its_physics(context: CountingContext) -> None:
    items = run(context)
    assert [item.name for item in items if isinstance(item, Stage)] == [
        "Reading the prompt", "Making the video", "Decoding"
    ]  # fmt: skip
    assert video(items).shape == (9, 32, 64, 3)
    assert [item.index for item in items if isinstance(item, LatentStep)] == [1, 2]
    assert context.passes == Counter(text_encoder=2, transformer=STEPS, physics=STEPS)
    assert notes(items) == [
        "Pictures and physics were denoised together, by a physics branch trained with this project."
    ]
    visual = next(module for key, module in context.modules.items() if key.startswith("transformer"))
    assert not any(block.attn1._forward_hooks for block in visual.blocks)


def test_without_physics_it_is_the_base_to_the_bit_and_the_branch_is_not_even_loaded(
    context: CountingContext, files: dict[str, tuple[Path, ...]], picture: Path
) -> None:
    """P2, P12."""
    base = context_of({role: paths for role, paths in files.items() if role not in ("physics", "encoder")})
    for given in ({}, {"picture": {"path": picture}}):
        alone = run(context, physics_scale=0.0, **given)
        assert np.array_equal(video(alone), video(run(base, physics_scale=0.0, **given)))
        assert "Made by the base model alone: the physics branch did not run." in notes(alone)
    assert context.builds.keys() == {"text_encoder", "transformer", "vae"}
    together = run(context)
    assert not np.array_equal(video(together), video(run(base, physics_scale=0.0)))
    assert context.builds["transformer"] == 1  # both ways share the pictures' network
    assert notes(run(base, physics_scale=0.0)) == ["Made by the base model alone: it has no physics branch."]


def test_a_silent_branch_changes_nothing(files: dict[str, tuple[Path, ...]], tmp_path: Path) -> None:
    """P1 through the whole engine."""
    tensors = load_file(files["physics"][0])
    silent = {key: value * 0 if ".vis_attn.o." in key else value for key, value in tensors.items()}
    save_file(silent, tmp_path / "physics.safetensors")
    (tmp_path / SETTINGS).write_text(files["physics"][1].read_text())
    quiet = context_of(files | {"physics": (tmp_path / "physics.safetensors", tmp_path / SETTINGS)})
    assert np.array_equal(video(run(quiet)), video(run(quiet, physics_scale=0.0)))


# What a clip begins with


def test_a_clip_begins_with_its_picture_and_keeps_its_shape(context: CountingContext, picture: Path) -> None:
    items = run(context, picture={"path": picture})
    assert context.passes["vae"] == 0 and context.passes["encoder"] == 1
    made = video(items)
    assert made.shape == (9, 32, 64, 3)
    tall = picture.with_name("tall.png")
    Image.open(picture).rotate(90, expand=True).save(tall)
    items = run(context, picture={"path": tall})
    assert video(items).shape == (9, 64, 32, 3)
    assert "The clip is 32x64: it keeps the shape of the picture." in notes(items)


def test_a_clip_goes_on_from_the_last_frames_of_another(context: CountingContext, bounce: Path) -> None:
    items = run(context, width=64, height=64, frames=17, clip={"path": bounce, "frames": 9})
    assert 'The clip goes on from frames 25 to 33 of 33 of "bounce.mp4".' in notes(items)
    made = video(items)
    assert made.shape == (17, 64, 64, 3)
    # What is decoded of given latents depends on nothing else: another prompt goes on otherwise from the same frames.
    other = video(run(context, width=64, height=64, frames=17, clip={"path": bounce, "frames": 9}, prompt="a circle"))
    assert np.array_equal(made[:9], other[:9]) and not np.array_equal(made[9:], other[9:])
    first = video(run(context, width=64, height=64, frames=17, clip={"path": bounce, "frames": 9, "moment": 0.0}))
    assert not np.array_equal(made[:9], first[:9])


def test_fewer_frames_are_given_than_the_clip_has(bounce: Path) -> None:
    frames, told = beginning(request(width=64, height=64, frames=9, clip={"path": bounce}))
    assert frames.shape == (5, 64, 64, 3) and "frames 29 to 33 of 33" in told[0]
    single, _ = beginning(request(width=64, height=64, frames=9, clip={"path": bounce, "frames": 1}))
    assert single.shape == (1, 64, 64, 3)
    scene = make_scene("bounce", 1).frames()
    assert np.abs(frames.astype(int) - scene[-5:].astype(int)).mean() < 3


def test_given_frames_are_encoded_once(context: CountingContext, bounce: Path) -> None:
    told = {"width": 64, "height": 64, "clip": {"path": bounce, "frames": 5}}
    run(context, **told)
    encoded = context.passes["encoder"]
    run(context, **told, seed=9)
    assert context.passes["encoder"] == encoded == 1


def test_a_clip_of_another_shape_and_rate_is_made_to_fit(context: CountingContext, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    writer = VideoWriter(path, fps=12, tags={})
    writer.write(np.random.default_rng(0).integers(0, 256, (8, 42, 120, 3), dtype=np.uint8))
    writer.close()
    items = run(context, width=64, height=64, frames=17, clip={"path": path, "frames": 5})
    assert video(items).shape == (17, 32, 96, 3)
    assert any("taken at 24 a second from 12, some of them twice" in note for note in notes(items))


@pytest.mark.parametrize("stop", ["Reading the clip", 1, "Decoding"])
def test_a_cancelled_run_leaves_nothing_behind(context: CountingContext, bounce: Path, stop: str | int) -> None:
    wanted = request(width=64, height=64, frames=17, clip={"path": bounce, "frames": 5})
    generation = PhantomPhysics().generate(wanted, context)
    for item in generation:
        if getattr(item, "name", None) == stop or getattr(item, "index", None) == stop:
            break
    generation.close()
    assert not context.in_use
    visual = [module for key, module in context.modules.items() if key.startswith("transformer")]
    assert not any(block.attn1._forward_hooks for network in visual for block in network.blocks)


# What is refused


def sentences(**values: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        request(**values)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_bad_requests_get_one_sentence_each(picture: Path, bounce: Path, tmp_path: Path) -> None:
    assert "a picture or a clip" in sentences(picture={"path": picture}, clip={"path": bounce})["picture"]
    assert sentences(clip={"path": bounce, "frames": 8})["clip"].endswith("choose 5 or 9.")  # P14
    assert "at least 5" in sentences(frames=1, picture={"path": picture})["frames"]
    assert "Write a prompt" in sentences(prompt=" ")["prompt"]
    assert "Solver must be" in sentences(solver="euler")["solver"]
    assert "choose 5 or 9" in sentences(frames=8)["frames"]
    assert "multiples of 32" in sentences(width=48, height=32)["width"]
    short = tmp_path / "short.mp4"
    writer = VideoWriter(short, fps=24, tags={})
    writer.write(np.zeros((3, 64, 64, 3), np.uint8))
    writer.close()
    assert "only 3 frames: at least 5 are needed" in sentences(clip={"path": short})["clip"]
    assert "is a PNG picture, not a video" in sentences(clip={"path": picture})["clip"]


def test_the_base_has_no_physics_to_scale() -> None:
    spec = SPECS["phantom-physics"]
    with pytest.raises(InvalidRequest, match=r"Wan2\.2 5B has no physics branch: set Physics to 0"):
        build_request(spec, {"model": "5B", "prompt": "a ball falls", "physics_scale": 1.0})
    assert build_request(spec, {"model": "5B", "prompt": "a ball falls"}).physics_scale == 0
    assert build_request(spec, {"model": "5B-physics", "prompt": "a ball falls"}).physics_scale == 1


def test_the_shift_follows_the_size_as_published() -> None:
    assert resolved_shift(request(), 832, 480) == resolved_shift(request(), 480, 832) == 3.0
    assert resolved_shift(request(), 1280, 704) == 5.0
    assert resolved_shift(request(shift=7.5), 1280, 704) == 7.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"visual_width": 48}, "transformer.safetensors has 32 channels, but physics.safetensors was made for 48"),
        ({"num_layers": 3}, "transformer.safetensors has 2 blocks, but physics.safetensors was made for 3"),
        ({"text_dim": 24}, "transformer.safetensors has 16 text channels, but physics.safetensors was made for 24"),
        (
            {"in_channels": 20, "out_channels": 20},
            "has 24 feature channels, but physics.safetensors was made for 20",
        ),
    ],
)
def test_networks_that_were_not_made_for_each_other_are_refused_before_loading(
    files: dict[str, tuple[Path, ...]], tmp_path: Path, changes: dict[str, int], sentence: str
) -> None:
    from engines.phantom_physics.checkpoint import WEIGHTS, describe, write_folder

    branch = tiny_physics.branch(**changes)
    write_folder(tmp_path, branch.state_dict(), describe(branch), dtype=None)
    wrong = context_of(files | {"physics": (tmp_path / WEIGHTS, tmp_path / SETTINGS)})
    with pytest.raises(IncompatibleCheckpoint, match=sentence):
        run(wrong)
    assert not wrong.builds


def test_what_a_checkpoint_says_beyond_this_version_is_noted(
    files: dict[str, tuple[Path, ...]], tmp_path: Path
) -> None:
    text = files["physics"][1].read_text().replace('"format": 1', '"format": 1, "mood": 2')
    (tmp_path / SETTINGS).write_text(text)
    odd = context_of(files | {"physics": (files["physics"][0], tmp_path / SETTINGS)})
    assert 'The physics checkpoint says "mood", which this version does not know.' in notes(run(odd))


def test_a_branch_trained_beside_another_base_is_noted(files: dict[str, tuple[Path, ...]], tmp_path: Path) -> None:
    own = hashlib.sha256(files["transformer"][0].read_bytes()).hexdigest()
    for told, noted in ((own, False), ("0" * 64, True)):
        text = files["physics"][1].read_text().replace('"base_sha256": ""', f'"base_sha256": "{told}"')
        assert told in text
        (tmp_path / SETTINGS).write_text(text)
        context = context_of(files | {"physics": (files["physics"][0], tmp_path / SETTINGS)})
        sentence = "The physics branch was trained beside another file than transformer.safetensors: it may do harm."
        assert (sentence in notes(run(context))) is noted


# Weights that nobody publishes


def test_the_physics_model_says_that_nobody_publishes_its_weights(tmp_path: Path) -> None:
    spec = SPECS["phantom-physics"]
    model, store = spec.model("5B-physics"), Store(models=tmp_path)
    assert "no public weights exist" in model.note
    found = models.availability(spec, model, files=store, devices=())
    assert found.reason == f"{model.title} cannot run here: {NO_PUBLIC_WEIGHTS}"
    with pytest.raises(MissingWeights, match=r"physics\.safetensors is not on this machine") as missing:
        store.require(spec.name, model)
    assert NO_PUBLIC_WEIGHTS in str(missing.value)
    base = models.availability(spec, spec.model("5B"), files=store, devices=())
    assert "is not installed" in base.reason


def test_a_trained_folder_takes_the_place_of_published_weights(
    files: dict[str, tuple[Path, ...]], tmp_path: Path
) -> None:
    spec = SPECS["phantom-physics"]
    model = spec.model("5B-physics")
    physics = next(weights for weights in model.weights if weights.role == "physics")
    folder = files["physics"][0].parent
    override = Store(overrides={(spec.name, model.name, "physics"): folder})
    assert override.find(physics, override=folder) == files["physics"]
    (tmp_path / "phantom-physics").mkdir()
    for file in files["physics"]:
        (tmp_path / "phantom-physics" / file.name).write_bytes(file.read_bytes())
    assert [path.name for path in Store(models=tmp_path).find(physics)] == [path.name for path in files["physics"]]


def test_grad_is_as_before(context: CountingContext) -> None:
    run(context)
    assert torch.is_grad_enabled()


def test_surprise_is_measured_of_the_clip_with_and_without_the_branch(context: CountingContext) -> None:
    for scale in (1.0, 0.0):
        plain, measured = (run(context, physics_scale=scale, surprise=told) for told in (False, True))
        assert np.array_equal(video(plain), video(measured)), "it only looks"
        assert not [item for item in plain if isinstance(item, Measured)]
        (figure,) = [item for item in measured if isinstance(item, Measured)]
        assert figure.name == "surprise" and 0 < figure.value < 2
        again = [item for item in run(context, physics_scale=scale, surprise=True) if isinstance(item, Measured)]
        assert again == [figure]


def test_surprise_that_cannot_be_measured_is_refused_before_a_run(
    files: dict[str, tuple[Path, ...]], tmp_path: Path
) -> None:
    for model, changes, said in (
        ("5B", {"physics_scale": 0.0}, "has no V-JEPA 2"),
        ("5B-physics", {"frames": 1}, "at least 5 frames"),
    ):
        spec = SPECS["phantom-physics"]
        with pytest.raises(InvalidRequest, match=said):
            build_request(spec, spec.default_values(model) | {"prompt": "a ball", "surprise": True} | changes)
    tiny_wan.write(tmp_path / "encoder.safetensors", tiny_physics.encoder(), tiny_physics.ENCODER)
    alone = context_of(files | {"encoder": (tmp_path / "encoder.safetensors",)})
    with pytest.raises(IncompatibleCheckpoint, match=r"encoder\.safetensors"):
        run(alone, surprise=True)
    assert not alone.builds, "refused before anything is loaded"


def test_the_preview_of_a_step_is_the_clip_that_the_network_aims_at() -> None:
    clean, noise = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))

    class Perfect:
        """Knows the clip from the first step on."""

        branch = None

        def velocity(self, latents: Latents, timestep: torch.Tensor, **_: Any) -> Latents:
            return Latents(noise - clean)

    steps = list(denoise(Perfect(), Latents(noise), given=None, scheduler=lambda: unipc(4, shift=5.0)))
    assert len(steps) == 4
    for state in steps:
        torch.testing.assert_close(state.clean, clean, atol=2e-3, rtol=0)


def test_the_physics_are_kept_as_a_moving_picture_of_the_clips_length(context: CountingContext) -> None:
    made = run(context)
    last = [item for item in made if isinstance(item, Frames)][-1]
    with Image.open(io.BytesIO(last.beside[".physics.webp"]())) as movie:
        duration = 0
        for index in range(movie.n_frames):
            movie.seek(index)
            movie.load()
            duration += movie.info["duration"]
        assert movie.n_frames > 1 and max(movie.size) == 192
    assert duration == pytest.approx(1000 * len(video(made)) / 24, rel=0.1)
    assert not any(item.beside for item in run(context, physics_scale=0.0) if isinstance(item, Frames))


def test_the_view_shows_what_differs_and_always_in_the_same_colours() -> None:
    from engines.phantom_physics.view import components

    latents = torch.zeros(5, 3, 2, 2)
    latents[2, 1] = 4.0  # a moment of its own
    latents[4, :, 0, 0] = 1.0  # a place of its own
    shown = components(latents)
    assert shown.shape == (3, 2, 2, 3) and np.array_equal(shown, components(latents))
    assert np.abs(shown[1].astype(int) - shown[0]).max() > 200 and np.array_equal(shown[0], shown[2])
    assert np.abs(shown[0, 0, 0].astype(int) - shown[0, 1, 1]).max() > 100
    assert components(torch.randn(2, 3, 2, 2))[..., 2].max() == 0, "two channels have no third direction"
