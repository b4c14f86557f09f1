"""The few types everything is built from. Imports no torch: the web process uses them too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from engines.errors import Problem
from engines.inputs import Kind, media_fields
from engines.memory.planning import Room
from engines.request import Request
from engines.wording import either, given, gpu_memory, number

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")


class Size(NamedTuple):
    """Width and height in pixels, written "96x64"."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: object) -> Size:
        """The size that `text` means, with any of the crosses that keyboards give.

        Raises:
            ValueError: with the sentence of what is wrong.
        """
        found = re.fullmatch(r"\s*(\d{1,9})\s*[xX×*✕хХｘＸ]\s*(\d{1,9})\s*", str(text))
        if found is None:
            raise ValueError(f"Write the size as width x height, for example 96x64; you gave {given(text)}.")
        return cls(int(found[1]), int(found[2]))

    @property
    def pixels(self) -> int:
        """How many pixels a frame has."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Geometry:
    """Which clips a model can make.

    Attributes:
        sizes: the named choices of the page, (width, height) in pixels, best first.
        multiple: width and height must be multiples of this (VAE stride x patch).
        max_pixels: largest width x height.
        frame_stride: frame counts are frame_stride * n + 1.
        max_frames: longest clip in frames.
        min_side: smallest width and height.
    """

    sizes: tuple[tuple[int, int], ...]
    multiple: int
    max_pixels: int
    frame_stride: int
    max_frames: int
    min_side: int = 64

    @property
    def lengths(self) -> range:
        """Frame counts that the model can make, shortest first."""
        return range(1, self.max_frames + 1, self.frame_stride)

    def problems(self, *, width: int, height: int, frames: int) -> list[Problem]:
        """What is wrong with a size and a length, and what would be right; empty if the model can do them."""
        return self._size_problems(width, height) + self._length_problems(frames)

    def _size_problems(self, width: int, height: int) -> list[Problem]:
        size = "x".join(str(side) if abs(side) < 10**6 else number(side) for side in (width, height))
        if min(width, height) < self.min_side or width * height > self.max_pixels:
            choices = either([str(Size(*size)) for size in self.sizes])
            sentence = (
                f"A clip of {size} is outside what this model can make: both sides need at least {self.min_side} "
                f"pixels, the whole at most {self.max_pixels:,}, for example {choices}."
            )
            return [Problem("height" if height < self.min_side <= width else "width", sentence)]
        if width % self.multiple or height % self.multiple:
            sentence = (
                f"A clip of {size} cannot be made: width and height must be multiples of {self.multiple}, "
                f"the nearest is {self._nearest_size(width, height)}."
            )
            return [Problem("width" if width % self.multiple else "height", sentence)]
        return []

    def _nearest_size(self, width: int, height: int) -> Size:
        """The closest size that the model can make; `width` and `height` are within its range."""
        lowest = -(-self.min_side // self.multiple)
        sides = [
            [max(lowest, side // self.multiple + more) * self.multiple for more in (0, 1)] for side in (width, height)
        ]
        possible = [Size(w, h) for w in sides[0] for h in sides[1] if w * h <= self.max_pixels]
        return min(possible, key=lambda size: abs(size.width - width) + abs(size.height - height))

    def _length_problems(self, frames: int) -> list[Problem]:
        if not 1 <= frames <= self.max_frames:
            sentence = f"A clip of {number(frames)} frames cannot be made: this model makes 1 to {self.max_frames}."
        elif (frames - 1) % self.frame_stride:
            below = (frames - 1) // self.frame_stride * self.frame_stride + 1
            choices = [str(count) for count in (below, below + self.frame_stride) if count <= self.max_frames]
            sentence = (
                f"A clip of {frames} frames cannot be made: choose {either(choices)} "
                f"(1, {1 + self.frame_stride}, {1 + 2 * self.frame_stride} and so on up to {self.max_frames})."
            )
        else:
            return []
        return [Problem("frames", sentence)]


UNVERIFIED = "unverified"


@dataclass(frozen=True)
class Weights:
    """One component's published files.

    Attributes:
        role: which part of the model it is: "transformer", "vae", "text_encoder", "tokenizer", ...
        files: paths inside the repository; several for a sharded checkpoint or a folder of small files.
        repo: hub repository id, or "" for files shipped in this project's assets folder.
        size_bytes: size of all files together, as published.
        licence: SPDX identifier, or UNVERIFIED where nobody has read it.
        unpublished: of files that nobody publishes, one sentence that says so and where they come from; `repo` is then
            their folder in the models folder. "" for all others.
    """

    role: str
    files: tuple[str, ...]
    repo: str = ""
    size_bytes: int = 0
    licence: str = "Apache-2.0"
    unpublished: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """A model is an engine plus a set of checkpoint files.

    Attributes:
        name: as written on the command line ("starter", "1.3B").
        note: one plain sentence for the page.
        weights: every component's files.
        geometry: which clips it can make.
        defaults: request values this checkpoint was published with, where they differ from the request's own.
        presets: quality name ("Draft", "Standard", "Best") -> the step counts it sets, by field.
        words: for a model that understands only a small vocabulary, one sentence that names it; "" for free text.
        device_bytes: accelerator memory that the default clip needs with offloading; 0 = runs well on a CPU.
    """

    name: str
    title: str
    note: str
    weights: tuple[Weights, ...]
    geometry: Geometry
    defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    words: str = ""
    device_bytes: int = 0

    @property
    def wants(self) -> str:
        """What it runs on, as the end of a sentence about it."""
        if not self.device_bytes:
            return "runs on any machine"
        return f"wants a GPU with {gpu_memory(self.device_bytes)} or more"

    @property
    def about(self) -> str:
        """Its note, and the GPU that it wants, if any."""
        return f"{self.note} It {self.wants}." if self.device_bytes else self.note


class Need(NamedTuple):
    """A network that a phase of a clip uses, and in which manners: "in 2 strips" -> bytes of activations for numbers of
    so many bytes, the best first."""

    role: str
    manners: Mapping[str, Callable[[int], int]]


class Phase(NamedTuple):
    """A part of a clip's making, and the networks that are used in it at the same time."""

    name: str
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class Branch:
    """A part of some of an engine's models that a clip can be made without.

    Attributes:
        name: what a person calls it ("physics").
        field: the number field that says how much of it there is; at 0 the clip is made without it.
        role: the role of its weights; a model without them has no such part.
    """

    name: str
    field: str
    role: str


@dataclass(frozen=True)
class FileChoice:
    """Choices of a field that only some checkpoints have.

    Attributes:
        role: whose files say which; a model without this role has none of them.
        taken: (these files) -> those choices, beside the field's default; cheap, and () where the files do not say.
        refusal: the sentence for a choice that they do not have; "{choice}" stands for it.
    """

    role: str
    taken: Callable[[Sequence[Path]], Sequence[str]]
    refusal: str


@dataclass(frozen=True)
class EngineSpec:
    """What the studio knows of an engine without importing torch.

    Attributes:
        name: as written on the command line ("phantom-wan").
        tab: title of its tab.
        implementation: "module:Class" of the Engine, imported in the worker on first use.
        check: problems of a request beyond its field bounds and geometry; cheap, loads no weights.
        keeps_parts: whether finished frames are handed out while later ones are made, one frame_stride of them (a unit)
            at a time, so that a job can be stopped and what is finished kept.
        advice: what a prompt for it should do, in sentences to a writer: a language model that refines one is told so.
        passes: most passes of the network that a step of this request takes; guidance adds some.
        prompt_words: most words of a prompt that it reads whole.
        phases: (request, role -> engines.memory.outlines.Outline, kind of device) -> what is used when, for the
            estimate before a clip is made; None where nobody has said.
        one_pass: the strengths of guidance with which every step is one pass, by field; none for an engine that no
            step-distillation adapters are made for.
        readings: text field -> what its text means for a clip of (text, frames, fps), in one sentence to show while it
            is written; raises ValueError with the sentence of what is wrong.
        cuts: text field of scenes -> the frames before each of its scenes, by number, in a clip of (text, frames, fps):
            where an earlier clip can be made anew from; raises ValueError with the sentence of what is wrong.
        excerpt_rules: (clip, frames=, fps=) -> which frames of a given "clip" begin a new one of this length: what
            engines.media.excerpt.choose takes; None for an engine that takes no clip.
        branch: the part that a clip can be made with and without; None where there is none.
        file_choices: fields of which only some checkpoints have the choices, by name.
    """

    name: str
    title: str
    purpose: str
    tab: str
    request_type: type[Request]
    models: tuple[ModelSpec, ...]
    implementation: str
    check: Callable[[Any, ModelSpec], list[Problem]]
    passes: Callable[[Any], int] = lambda request: 1
    advice: str = ""
    prompt_words: int = 150
    keeps_parts: bool = False
    phases: Callable[[Any, Mapping[str, Any], str], tuple[Phase, ...]] | None = None
    readings: Mapping[str, Callable[[str, int, int], str]] = field(default_factory=dict)
    cuts: Mapping[str, Callable[[str, int, int], dict[int, int]]] = field(default_factory=dict)
    one_pass: Mapping[str, float] = field(default_factory=dict)
    excerpt_rules: Callable[..., dict[str, Any]] | None = None
    branch: Branch | None = None
    file_choices: Mapping[str, FileChoice] = field(default_factory=dict)

    def field_of(self, *kinds: Kind) -> str | None:
        """The first field that holds files of these kinds: see engines/inputs.py; None if there is none."""
        return next(iter(media_fields(self.request_type, *kinds)), None)

    @property
    def continued_from(self) -> str:
        """How the file beside a clip ends that its field of an "earlier job" takes; "" if it has no such field."""
        name = self.field_of("earlier job")
        return media_fields(self.request_type)[name].suffix if name else ""

    def model(self, name: str) -> ModelSpec:
        """The model called `name`; raises KeyError."""
        return {model.name: model for model in self.models}[name]

    def default_values(self, model: str) -> dict[str, Any]:
        """Default of every request field for `model`, the declaration's own where the model has none."""
        values = {name: info.get_default() for name, info in self.request_type.model_fields.items()}
        return values | dict(self.model(model).defaults) | {"model": model}


@dataclass(frozen=True)
class Streamed:
    """A network whose blocks are read from its file when their turn comes, for a device that is RAM and short of it.

    Attributes:
        build: returns the module.
        size_bytes: what it takes of RAM at a time.
    """

    build: Callable[[], torch.nn.Module]
    size_bytes: int


Put = Callable[[str, "torch.Tensor"], "torch.Tensor"]
"""(name of a parameter, its numbers on the CPU) -> what a network holds of them."""


@dataclass(frozen=True)
class Shared:
    """A network whose weights several devices share.

    Attributes:
        build: given what prepares an empty network with these blocks and says where its parameters go, returns one
            device's part of it, on that device.
        size_bytes: what one device holds of it.
        gathered_bytes: what is gathered there while it runs.
    """

    build: Callable[[Callable[[torch.nn.Module, tuple[str, ...]], Put]], torch.nn.Module]
    size_bytes: int
    gathered_bytes: int


@dataclass(frozen=True)
class Component:
    """A network that can be made resident.

    Attributes:
        key: role, checkpoint, precision and whatever else tells its weights from others'; the same key from two
            engines is one object.
        build: reads the weights and returns the module on the CPU, in the precision of the key.
        size_bytes: size of its parameters and buffers.
        blocks: paths of the module lists whose members may take turns on the device.
        role: which part of the model it is, as in `Weights`; "" leaves it out of the metadata.
        precision: what it computes in, as the clip's metadata tell it.
        half: whether it computes in half precision, as some kernels of attention demand.
        notes: what people should know of its weights, a sentence each.
        streamed: the same network from its file, block by block; None if it cannot.
        shared: how several devices share it, where they do; None where each that needs it holds all of it.
        stays: whether it is built on its device and cannot be moved: to make room it is dropped.
        in_turns: whether its blocks take turns even where there is room for all of them, for memory ran out before.
        adapts: whether adapters change it for the job.
        compiles: whether nothing but that is put on its blocks while it is used, so that they may be compiled.
        adapted: (module) -> the block in which the job's adapters are on it. They are no part of the key: what is kept
            warm is the network without them.
        rung: where on its ladder (engines/memory/planning.py) this plan of it stands.
    """

    key: str
    build: Callable[[], torch.nn.Module]
    size_bytes: int
    blocks: tuple[str, ...] = ()
    role: str = ""
    precision: str = ""
    half: bool = False
    notes: tuple[str, ...] = ()
    streamed: Streamed | None = None
    shared: Shared | None = None
    stays: bool = False
    in_turns: bool = False
    adapts: bool = False
    compiles: bool = False
    adapted: Callable[[Any], AbstractContextManager[Any]] = nullcontext
    rung: int = 0


@dataclass(frozen=True)
class Frames:
    """Engine -> runner: decoded frames in order, uint8 [T, H, W, 3].

    `beside` has files that belong beside the clip as it stands with these frames: suffix -> what gives its content.
    """

    pixels: np.ndarray
    beside: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Engine -> runner: a figure of the whole clip, for its metadata."""

    name: str
    value: float


@dataclass(frozen=True)
class LatentStep:
    """Engine -> runner: one step is done. `preview()` renders the state as uint8 [T, h, w, 3]; called only if shown."""

    index: int
    total: int
    preview: Callable[[], np.ndarray] | None = None


class Context(Protocol):
    """What an engine may do to the world. Given by the worker; a test gives its own.

    Attributes:
        decodes: whether frames are wanted; not of a process that only helps another one with its steps.
        lower: role -> rungs of its ladder to leave out, because memory ran out on them.
        wanted: of memory.planning.PRECISIONS, what networks should be held in.
    """

    model: ModelSpec
    device: torch.device
    decodes: bool
    lower: Mapping[str, int]
    wanted: str

    def room(self, *, beside: int = 0) -> Room:
        """The memory that networks and their runs may take now, with `beside` bytes left for others."""
        ...

    @property
    def precisions(self) -> Mapping[str, str]:
        """Role -> what it computed in, of the components behind this job so far."""
        ...

    @property
    def computed(self) -> Mapping[str, str]:
        """How else it was computed, for the clip's metadata: "attention" -> "torch"."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What those components want people to know, in order."""
        ...

    def paths(self, role: str) -> tuple[Path, ...]:
        """The files of one component of the model, in the order of its Weights; raises MissingWeights."""
        ...

    def use(self, component: Component, *, working_bytes: int = 0) -> AbstractContextManager[Any]:
        """The module on the device for the length of the block, with `working_bytes` kept free for activations."""
        ...

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """`compute()`, or its earlier result for the same key. For small CPU tensors such as text encodings."""
        ...


class Engine(Protocol):
    """One system. `generate` is its published recipe, straight down."""

    def generate(self, request: Any, context: Context) -> Iterator[Any]:
        """Yields Stage, LatentStep, Note and Frames; closing the generator cancels the run."""
        ...
