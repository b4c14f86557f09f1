"""What every engine owes: run for each engine of the registry on a tiny model of its real classes.

A new engine gets all of it by being registered and having an entry in tests/engines/tiny_models.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic.fields import FieldInfo
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint, InvalidRequest, NotFinite, OutOfMemory
from engines.inputs import PICTURES, entries, media_fields, media_of
from engines.loading.store import Store
from engines.media import metadata
from engines.media.video import read_frames
from engines.registry import SPECS, implementation
from engines.request import Request, bounds, control
from engines.runtime import runner
from engines.runtime.session import Session
from engines.types import Frames
from engines.validation import build_request
from tests.engines.tiny_models import TINY, Tiny


def session(tiny: Tiny, files: dict[str, tuple[Path, ...]], *, memory_bytes: int | None = None) -> Session:
    """A device with the tiny model's files, as a worker has it."""
    overrides = {(tiny.engine, "tiny", role): paths[0] for role, paths in files.items()}
    return Session("cpu", store=Store(overrides=overrides), memory_bytes=memory_bytes)


class Bench:
    """An engine with its tiny model, pictures to give it, and the ways to run it."""

    def __init__(self, tiny: Tiny, folder: Path) -> None:
        self.tiny, self.folder, self.spec = tiny, folder, tiny.spec
        self.files = tiny.write(folder)
        self.session = session(tiny, self.files)
        self.pictures = [_picture(folder / f"{colour}.png", colour) for colour in ("red", "blue")]

    def values(self, **changes: Any) -> dict[str, Any]:
        """A good request: pictures only where the engine needs them."""
        needed = {name: declared for name, declared in media_fields(self.spec.request_type).items() if declared.needed}
        given = {name: self.media(name) for name in needed}
        return self.spec.default_values("tiny") | given | changes

    def media(self, name: str, picture: int = 0, **parts: Any) -> Any:
        """A value for a field of files: the picture, with its parts where they are told."""
        declared = media_fields(self.spec.request_type)[name]
        if not declared.is_picture:
            pytest.skip(f"no file of the kind {declared.kind} to give")
        one = {"path": self.pictures[picture], **parts}
        return [one] if declared.most > 1 else one

    def request(self, **changes: Any) -> Request:
        return build_request(self.spec, self.values(**changes))

    def made(self, **changes: Any) -> list[Frames]:
        """What the engine itself hands out."""
        context = self.session.context(self.spec.name, self.spec.model("tiny"))
        made = implementation(self.spec).generate(self.request(**changes), context)
        return [item for item in made if isinstance(item, Frames)]

    def clip(self, **changes: Any) -> np.ndarray:
        """Its frames, uint8 [T,H,W,3]."""
        return np.concatenate([frames.pixels for frames in self.made(**changes)])

    def run(self, output: Path, session: Session | None = None, **changes: Any) -> Iterator[Any]:
        """The events of a whole run, as a worker makes it."""
        context = (session or self.session).context(self.spec.name, self.spec.model("tiny"))
        return runner.run(self.spec, self.request(**changes), context, output_dir=output, job_id="clip")


def _picture(path: Path, colour: str) -> Path:
    """A subject on a plain background, off the middle of a tall picture, that the camera took lying on its side."""
    image = Image.new("RGB", (60, 110), (120, 160, 200))
    ImageDraw.Draw(image).ellipse((15, 20, 45, 60), fill=colour)
    noisy = np.asarray(image) + np.random.default_rng(0).normal(0, 4, (110, 60, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, exif=exif)
    return path


@pytest.fixture(scope="module", params=SPECS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    assert request.param in TINY, f"{request.param} needs an entry in tests/engines/tiny_models.py"
    return Bench(TINY[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def first(bench: Bench) -> np.ndarray:
    """The frames of the good request."""
    return bench.clip()


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or not np.array_equal(one, other)


# Parameters


def scalars(bench: Bench) -> dict[str, FieldInfo]:
    """Every declared parameter that is no file."""
    fields = bench.spec.request_type.model_fields
    return {name: info for name, info in fields.items() if name != "model" and media_of(info) is None}


def of_files(bench: Bench) -> dict[str, str]:
    """Those that are said of a file, with the file's field: without it they are refused."""
    return {name: owner for name, info in scalars(bench).items() if (owner := control(info)["of"])}


def another(bench: Bench, name: str, info: FieldInfo) -> dict[str, Any]:
    """Values that differ from the good request's in one parameter, as far as they can."""
    if name in bench.tiny.others:
        return dict(bench.tiny.others[name])
    value, geometry = bench.values()[name], bench.tiny.geometry
    if isinstance(value, bool):
        return {name: not value}
    if isinstance(value, str):
        return {name: f"{value} blue circle falls".strip()}
    if name in ("width", "height"):
        return {name: value + geometry.multiple}
    if name == "frames":
        return {name: value + geometry.frame_stride}
    low, high = bounds(info)
    return {name: low if low is not None and value != low and name != "seed" else value + 1 if high is None else high}


def test_each_declared_parameter_changes_the_clip_or_how_it_is_shown(bench: Bench, first: np.ndarray) -> None:
    idle, wrong = [], []
    bases: dict[str, np.ndarray] = {}
    for name, info in scalars(bench).items():
        values = another(bench, name, info)
        if owner := of_files(bench).get(name):
            with pytest.raises(InvalidRequest, match='is said of "'):
                bench.request(**values)
            if not media_fields(bench.spec.request_type)[owner].is_picture:
                continue
            values[owner] = bench.media(owner)
        beside = {field: value for field, value in values.items() if field != name}
        if beside and str(beside) not in bases:
            bases[str(beside)] = bench.clip(**beside)
        changed = differ(bases.get(str(beside), first), bench.clip(**values))
        if control(info)["presentation"]:
            wrong += [name] if changed else []
        elif not changed:
            idle.append(name)
    assert idle == [], "declared, shown to people, and without effect"
    assert wrong == [], "declared as presentation, but it changes the frames"


def test_each_file_and_each_part_of_it_changes_the_clip(bench: Bench, first: np.ndarray) -> None:
    idle = []
    for name, declared in media_fields(bench.spec.request_type, *PICTURES).items():
        given = bench.clip(**{name: bench.media(name)})
        cut = {"keep_background": False} if "keep_background" in declared.parts else {}
        if not declared.needed and not differ(first, given):
            idle.append(name)
        if not differ(given, bench.clip(**{name: bench.media(name, picture=1)})):
            idle.append(f"{name}.path")
        for part, info in declared.part_fields().items():
            value = info.get_default()
            before, parts = given, {part: (not value) if isinstance(value, bool) else bounds(info)[0]}
            if isinstance(value, str):  # strokes, which mend what is cut out
                before, parts = bench.clip(**{name: bench.media(name, **cut)}), cut | {part: "+20 10,10; -9 50,60"}
            if not differ(before, bench.clip(**{name: bench.media(name, **parts)})):
                idle.append(f"{name}.{part}")
        if declared.most > 1:
            both = [*bench.media(name), *bench.media(name, picture=1)]
            if not differ(bench.clip(**{name: both}), bench.clip(**{name: both[::-1]})):
                idle.append(f"{name}: their order")
    assert idle == [], "declared, offered to people, and without effect"


def test_a_part_that_is_not_declared_is_refused(bench: Bench) -> None:
    for name, declared in media_fields(bench.spec.request_type, *PICTURES).items():
        for part, value in {"keep_background": False, "position": 0.1}.items():
            if part in declared.parts:
                bench.request(**{name: bench.media(name, **{part: value})})
                continue
            with pytest.raises(InvalidRequest, match=f'has no setting "{part}"'):
                bench.request(**{name: bench.media(name, **{part: value})})


# The seed


def test_the_same_seed_is_the_same_clip_and_another_is_not(bench: Bench, first: np.ndarray) -> None:
    torch.manual_seed(99)  # no global state is used
    np.random.seed(99)
    assert np.array_equal(first, bench.clip())
    assert differ(first, bench.clip(seed=5))


def test_a_clip_that_goes_on_is_the_one_never_interrupted(bench: Bench, tmp_path: Path) -> None:
    longer = bench.values()["frames"] + bench.tiny.geometry.frame_stride
    fields = media_fields(bench.spec.request_type, "earlier job")
    if not fields:
        pytest.skip("its clips cannot be gone on with")
    for name, declared in fields.items():
        kept = {seed: tmp_path / f"{seed}{declared.suffix}" for seed in (4, 5)}
        for seed, path in kept.items():
            path.write_bytes(bench.made(seed=seed)[-1].beside[declared.suffix]())
        whole = bench.clip(frames=longer)
        assert np.array_equal(whole, bench.clip(frames=longer, **{name: kept[4]}))
        assert differ(whole, bench.clip(frames=longer, **{name: kept[5]}))


def test_a_clip_made_anew_from_a_place_keeps_what_comes_before_to_the_bit(bench: Bench, tmp_path: Path) -> None:
    stride = bench.tiny.geometry.frame_stride
    kept, longer = 1 + stride, 1 + 3 * stride
    earlier = media_fields(bench.spec.request_type, "earlier job")
    places = {name: owner for name, owner in of_files(bench).items() if owner in earlier}
    if not places:
        pytest.skip("its clips are not made anew from a place")
    for name, owner in places.items():
        declared = earlier[owner]
        whole, path = bench.made(frames=longer), tmp_path / f"whole{declared.suffix}"
        path.write_bytes(whole[-1].beside[declared.suffix]())
        before = np.concatenate([frames.pixels for frames in whole])
        going_on = {"frames": longer, owner: path, name: kept}
        assert np.array_equal(before, bench.clip(**going_on)), "with the same words it is the same clip"
        anew = bench.made(**going_on, prompt="a blue circle falls")
        after = np.concatenate([frames.pixels for frames in anew])
        assert np.array_equal(before[:kept], after[:kept]) and differ(before[kept:], after[kept:])
        shorter = bench.clip(**going_on | {"frames": 1 + 2 * stride})
        assert np.array_equal(before[: 1 + 2 * stride], shorter)


def test_passes_in_a_batch_and_apart_agree(bench: Bench, first: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    if not bench.tiny.batching:
        pytest.skip("its passes are never one batch")
    monkeypatch.setattr(bench.tiny.batching, 0)
    assert np.abs(first.astype(int) - bench.clip().astype(int)).max() <= 1


# A whole run


def locked(session: Session) -> list[str]:
    """The networks in use, and working memory still booked."""
    held = sum(size for _, where, size in session.cache.state() if where == "device")
    return [key for key, entry in session.cache._entries.items() if entry.locks] + (
        ["working memory"] if session.cache.device_bytes != held else []
    )


def test_a_cancel_at_any_moment_leaves_nothing(bench: Bench, first: np.ndarray, tmp_path: Path) -> None:
    count = sum(event.type != "preview" for event in bench.run(tmp_path / "whole"))  # previews come by the clock
    for moment in range(1, count):
        with closing(bench.run(tmp_path / "cancelled")) as events:
            for _ in range(moment):
                while next(events).type == "preview":
                    continue
        assert list((tmp_path / "cancelled").iterdir()) == []
        assert locked(bench.session) == []
        assert torch.is_grad_enabled()
    assert np.array_equal(first, bench.clip()), "and the next clip is what it would have been"


def test_a_clip_says_how_it_was_made(bench: Bench, tmp_path: Path) -> None:
    pictured = {name: bench.media(name) for name in media_fields(bench.spec.request_type, *PICTURES)}
    *_, done = bench.run(tmp_path, **pictured)
    request, told = bench.request(**pictured), metadata.read(Path(done.result.video))
    with closing(read_frames(Path(done.result.video))) as frames:
        assert sum(1 for _ in frames) == request.frames == done.result.frames
    assert set(told.parameters) == set(type(request).model_fields)
    for name in scalars(bench):
        assert told.parameters[name] == getattr(request, name)
    for name in pictured:
        (entry,) = entries(told.parameters[name])
        assert entry["path"] == "red.png"
    assert {entry["file"] for entry in told.inputs} == {"red.png"} if pictured else not told.inputs
    assert {entry["role"] for entry in told.checkpoints} == set(bench.files)
    assert str(bench.folder) not in Path(done.result.sidecar).read_text(encoding="utf-8")


# Memory


def test_no_clip_is_refused_after_its_first_step(bench: Bench, tmp_path: Path) -> None:
    """With ever more memory a clip is refused before its first step, or made."""
    outcomes, memory = [], 2_000
    while outcomes[-1:] != ["made"]:
        steps = 0
        try:
            for event in bench.run(tmp_path, session(bench.tiny, bench.files, memory_bytes=memory)):
                steps += event.type == "step"
            outcomes.append("made")
        except OutOfMemory as refused:
            assert steps == 0, str(refused)
            assert refused.hint and "\n" not in str(refused) and str(tmp_path) not in str(refused)
            outcomes.append("refused")
        memory = int(memory * 1.25)
    assert len(outcomes) > 3


# Files


def test_bad_files_are_refused_in_one_sentence_before_anything_is_loaded(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("I am no picture.")
    (tmp_path / "cut.png").write_bytes(bench.pictures[0].read_bytes()[:900])
    (tmp_path / "folder.png").mkdir()
    for name, declared in media_fields(bench.spec.request_type).items():
        for file in ("text.png", "cut.png", "folder.png", "none.png"):
            path = tmp_path / file
            one = path if declared.kind == "earlier job" else {"path": path}
            with pytest.raises(InvalidRequest) as refused:
                bench.request(**{name: [one] if declared.most > 1 else one})
            (problem,) = refused.value.problems
            assert problem.field == name and file in problem.message and str(tmp_path) not in problem.message
            assert problem.message.endswith(".") and "\n" not in problem.message


def test_numbers_that_are_not_finite_never_become_a_clip(bench: Bench, tmp_path: Path) -> None:
    """Of every network in turn, all weights are no numbers: the first that computes with them is named."""
    pictured = {name: bench.media(name) for name in media_fields(bench.spec.request_type, *PICTURES)}
    for role, paths in bench.files.items():
        if paths[0].suffix != ".safetensors":
            continue
        broken = tmp_path / role / paths[0].name
        broken.parent.mkdir()
        tensors = {key: torch.full_like(value, torch.nan) for key, value in load_file(paths[0]).items()}
        save_file(tensors, broken, metadata=_metadata(paths[0]))
        for beside in paths[1:]:
            shutil.copy(beside, broken.parent)
        with pytest.raises(NotFinite) as stopped:
            list(bench.run(tmp_path / "out", session(bench.tiny, bench.files | {role: (broken,)}), **pictured))
        assert f"{role.replace('_', ' ')} {broken.name} made numbers that are not finite" in str(stopped.value)
        assert "\n" not in str(stopped.value) and str(tmp_path) not in str(stopped.value)
        assert list((tmp_path / "out").iterdir()) == []


def test_checkpoints_cut_short_or_of_another_network_are_refused_before_a_step(bench: Bench, tmp_path: Path) -> None:
    for role, paths in bench.files.items():
        if paths[0].suffix != ".safetensors":
            continue
        cut = tmp_path / role / paths[0].name
        cut.parent.mkdir()
        cut.write_bytes(paths[0].read_bytes()[:-100])
        foreign = next(other[0] for name, other in bench.files.items() if name not in (role, "tokenizer"))
        for wrong in (cut, foreign):
            steps = 0
            with pytest.raises(IncompatibleCheckpoint) as refused:
                for event in bench.run(tmp_path / "out", session(bench.tiny, bench.files | {role: (wrong,)})):
                    steps += event.type == "step"
            sentence = str(refused.value)
            assert steps == 0 and (wrong.name in sentence or role in sentence)
            assert "\n" not in sentence and str(tmp_path) not in sentence and str(bench.folder) not in sentence


def test_a_file_whose_second_half_is_zeros_makes_no_clip_called_done(bench: Bench, tmp_path: Path) -> None:
    for role, paths in bench.files.items():
        content = paths[0].read_bytes()
        if paths[0].suffix != ".safetensors" or len(content) < 2**15:
            continue
        hollow = tmp_path / role / paths[0].name
        hollow.parent.mkdir()
        hollow.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
        with pytest.raises(IncompatibleCheckpoint, match=f"{hollow.name} is empty in large part"):
            list(bench.run(tmp_path / "out", session(bench.tiny, bench.files | {role: (hollow,)})))


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}
