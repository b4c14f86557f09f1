"""The rows of benchmarks.gpu, in the order of their value; each is a method that yields what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from diffusers import WanTransformer3DModel

from benchmarks.gpu_models import Scale, of_one_block, write_transformer, write_vae
from benchmarks.gpu_work import Clip, Clock, Timed, apart, levels_apart
from engines.loading.networks import Network, find_network
from engines.loading.store import Store
from engines.memory import activations, offload
from engines.memory.fitting import Planned
from engines.memory.precision import PRECISIONS
from engines.registry import SPECS
from engines.runtime import compiling
from engines.runtime.context import WorkerContext
from engines.runtime.session import Session
from engines.sampling.caches import CACHES
from engines.types import Component
from engines.wan import decoding
from engines.wan.transformer import token_count
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE

ENGINE, MODEL = "phantom-wan", "1.3B"
CACHED_STEPS = 12


class Row(NamedTuple):
    """One comparison, in seconds and bytes; 0 for what there is not.

    Attributes:
        planned: what the planner had booked of the device for ours.
    """

    what: str
    ours: float = 0.0
    theirs: float = 0.0
    our_peak: int = 0
    their_peak: int = 0
    planned: int = 0
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours / theirs: below 1 is better."""
        return self.ours / self.theirs if self.theirs else 0.0


class Rows:
    """What is measured on one device.

    Args:
        folder: for files of random weights.
        steps: of a timed clip; the first warms up.
    """

    def __init__(self, device: str, scale: Scale, folder: Path, *, steps: int, memory_gb: float | None = None) -> None:
        self.scale, self.steps, self._folder, self._name = scale, steps, folder, device
        self._limit = None if memory_gb is None else int(memory_gb * 1e9)
        self.session = Session(device, store=Store(), memory_bytes=self._limit)
        self.device = self.session.device.torch_device
        self.clock = Clock(self.device)
        self.file = write_transformer(folder / "one", scale.small, self.device)
        self.network = find_network("transformer", (self.file,), TRANSFORMER)
        self.vae = find_network("vae", (write_vae(folder / "vae", scale.vae, self.device),), VAE)
        size = {"width": scale.width, "height": scale.height, "frames": scale.frames}
        self.clip = Clip.drawn(self.vae.config, scale.small["text_dim"], **size, device=self.device)
        self._baseline: Timed | None = None

    @property
    def all(self) -> dict[str, Callable[[], Iterator[Row]]]:
        """Every row by name, the most telling first."""
        return {
            "eager": self.eager,
            "decoding": self.decoding,
            "offloaded": self.offloaded,
            "compiled": self.compiled,
            "cached": self.cached,
            "switch": self.switch,
            "narrow": self.narrow,
        }

    def eager(self) -> Iterator[Row]:
        """Denoising as it is, against the pipeline."""
        with self._used() as (network, planned):
            ours, theirs = self.clip.ours(network, self.steps, self.clock), self._pipeline(network)
            note = f"latents apart {apart(ours.result, theirs.result):.0e}, attention {self._attention}"
            yield self._row("a step, eager", ours, planned, note)

    def decoding(self) -> Iterator[Row]:
        """All frames, against the autoencoder's own method; then within little memory."""
        ours, planned, theirs = self._decoded(self.session, against=True)
        assert theirs is not None
        note = f"{self.scale.frames} frames; at most {levels_apart(ours.result, theirs.result)} of 255 levels apart"
        row = Row("decoding", ours.step, theirs.step, ours.peak_bytes, theirs.peak_bytes, planned, note)
        yield row
        self.session.free()
        ours, planned, _ = self._decoded(
            Session(self._name, store=Store(), memory_bytes=int(self.scale.small_gb * 1e9))
        )
        self.session = Session(self._name, store=Store(), memory_bytes=self._limit)
        self.session.free()
        note = f"at most {levels_apart(ours.result, theirs.result)} of 255 levels apart"
        what = f"decoding within {self.scale.small_gb:g} GB"
        yield row._replace(what=what, ours=ours.step, our_peak=ours.peak_bytes, planned=planned, note=note)

    def _decoded(self, session: Session, *, against: bool = False) -> tuple[Timed, int, Timed | None]:
        """The frames by this project, what was booked for it, and the frames by the autoencoder's own method."""
        size = {"wide": self.scale.width, "high": self.scale.height}
        context = self._context(session)
        planned = self.vae.plan(context, decoding.manners(self.vae.config, **size, device=self.device.type))
        with context.use(planned.component, working_bytes=planned.working_bytes) as vae:
            first = replace(self.clip, noise=self.clip.noise[:, :2])
            first.decoded(vae, planned.manner, self.clock)  # finds its algorithms
            ours = self.clip.decoded(vae, planned.manner, self.clock)
            theirs = self.clip.decoded_at_once(vae, self.clock) if against else None
        return ours, planned.plan.needs_bytes, theirs

    def cached(self) -> Iterator[Row]:
        """Denoising with the step caches that need no calibration; against the pipeline without."""
        for name in ("half", "third"):
            with self._used() as (network, planned):
                self._pipeline(network)
                with CACHES[name].on(network):
                    ours = self.clip.ours(network, CACHED_STEPS, self.clock)
            ours = replace(ours, seconds=[sum(ours.seconds) / len(ours.seconds)])
            note = f"mean of {CACHED_STEPS} steps; it changes the clip"
            yield self._row(f"a step, eager, {CACHES[name].title}", ours, planned, note)

    def compiled(self) -> Iterator[Row]:
        """Denoising with the blocks compiled."""
        if why := compiling.unusable(self.device.type):
            yield Row("a step, compiled", note=why)
            return
        with self._used() as (network, planned):
            self._pipeline(network)
            plain = self.clip.ours(network, 2, self.clock).result
            with compiling.compiled(network):
                warm = self.clip.ours(network, 2, self.clock)
                ours = self.clip.ours(network, self.steps, self.clock)
            first, typical = warm.seconds[0], ours.step
            note = f"the first step took {first:.0f} s; latents apart {apart(warm.result, plain):.0e} from eager"
            if (gain := self._pipeline(network).step - typical) > 0:
                note += f"; pays after {first / gain:.0f} steps"
            yield self._row("a step, compiled", ours, planned, note)

    def narrow(self) -> Iterator[Row]:
        """Denoising with weights of 8 bits, made while they are loaded."""
        if not self.network.can_be_narrower:
            yield Row("a step, weights of 8 bits", note="torchao is not installed")
            return
        half = "bfloat16" if self.device.type == "cuda" else "float32"
        for kind in ("int8", "float8"):
            form = PRECISIONS[f"{kind} in {half}"]
            component, context = self.network.component(form), self._context()
            with context.use(component, working_bytes=self._working(form.compute.itemsize)) as network:
                ours = self.clip.ours(network, self.steps, self.clock)
            needs = component.size_bytes + self._working(form.compute.itemsize)
            note = f"{component.size_bytes / 1e9:.2f} GB of weights instead of {self.file.stat().st_size / 1e9:.2f}"
            if self._baseline is None:
                with self._used() as (network, _):
                    self._pipeline(network)
            yield self._row(f"a step, eager, {form.name}", ours, needs, note)
        self.session.free()

    def switch(self) -> Iterator[Row]:
        """From one model to another of its size, where there is room for one of them on the device."""
        other = self._folder / "other" / self.file.name
        other.parent.mkdir(exist_ok=True)
        if not other.exists():
            other.hardlink_to(self.file)
            (other.parent / "config.json").write_text((self.file.parent / "config.json").read_text())
        self.session.free()
        networks = [self.network, find_network("transformer", (other,), TRANSFORMER)]
        components = [self._planned(network, self._context()).component for network in networks]

        context = self._context()

        def use(component: Component) -> None:
            with context.use(component) as network:
                _touched(network)

        cold = [self.clock.seconds(lambda one=one: use(one)) for one in components][1]
        with self._room_for_one(components[0]):
            for component in components:
                use(component)
            warm = self.clock.seconds(lambda: use(components[0]))
        self.session.free()

        def load(to: torch.device) -> WanTransformer3DModel:
            dtype = PRECISIONS[components[0].precision].storage
            return WanTransformer3DModel.from_pretrained(other.parent, torch_dtype=dtype).to(to)

        theirs_cold = self.clock.seconds(lambda: _touched(load(self.device)))
        pair = [load(self.device), load(torch.device("cpu"))]
        theirs_warm = self.clock.seconds(lambda: (pair[0].to("cpu"), _touched(pair[1].to(self.device))))
        pair.clear()
        size = f"{components[0].size_bytes / 1e9:.2f} GB"
        yield Row("switch to a model in its file", cold, theirs_cold, note=f"{size}; from_pretrained; file in cache")
        yield Row("switch to a model in RAM", warm, theirs_warm, note=f"{size}; one out, the other in, by hand")

    def offloaded(self) -> Iterator[Row]:
        """The large network within little memory, its blocks taking turns; against the same one whole."""
        config, name = self.scale.large, self.scale.names[1]
        self.session.free()
        began = self.clock.now()
        empty_bytes = offload.size_bytes(network := of_one_block(config, self.device))
        drawn = self.clock.now() - began
        clip = replace(self.clip, texts=tuple(text[:, : config["text_dim"]] for text in self.clip.texts))
        working = activations.wan_transformer(config, tokens=self._tokens, itemsize=network.dtype.itemsize)
        component = Component(
            key=f"transformer {name}",
            build=lambda: network,
            size_bytes=empty_bytes,
            blocks=TRANSFORMER.blocks,
            role="transformer",
            precision=str(network.dtype).removeprefix("torch."),
            half=network.dtype.itemsize == 2,
        )
        little = Session(self._name, store=Store(), memory_bytes=int(self.scale.large_gb * 1e9))
        context = self._context(little)
        began = self.clock.now()
        with context.use(component, working_bytes=working) as module:
            placed = self.clock.now() - began
            in_turns = clip.ours(module, 2, self.clock, passes=1)
            held = self._ram()
            where = little.cache.state()[0][1]
            planned = little.cache.device_bytes
        little.free()
        del little, context, module
        network = None
        self.session = Session(self._name, store=Store(), memory_bytes=self._limit)
        self.session.free()
        note = (
            f"{empty_bytes / 1e9:.1f} GB of weights, {where} within {self.scale.large_gb:g} GB; one pass a step; "
            f"{held:.0f} GB of RAM, {self._ram():.0f} after it was dropped; ready in {drawn + placed:.0f} s"
        )
        row = Row(f"a step of {name}, blocks in turns", in_turns.step, 0.0, in_turns.peak_bytes, 0, planned, note)
        yield row  # the other half may not fit, or not into the time
        network = of_one_block(config, self.device)
        with self._context().use(replace(component, key=f"{component.key} whole"), working_bytes=working) as module:
            whole = clip.ours(module, 2, self.clock, passes=1)
        self.session.free()
        yield row._replace(
            what=f"{row.what}, against the same one whole", theirs=whole.step, their_peak=whole.peak_bytes
        )

    def _pipeline(self, network: Any) -> Timed:
        """What diffusers' pipeline takes for the same work, measured once."""
        if self._baseline is None:
            self._baseline = self.clip.theirs(network, self.steps, self.clock)
        return self._baseline

    def _row(self, what: str, ours: Timed, planned: Planned | int, note: str) -> Row:
        assert self._baseline is not None
        needs = planned if isinstance(planned, int) else planned.plan.needs_bytes
        return Row(what, ours.step, self._baseline.step, ours.peak_bytes, self._baseline.peak_bytes, needs, note)

    @contextmanager
    def _used(self) -> Iterator[tuple[Any, Planned]]:
        """The small network as the planner has it, on the device."""
        context = self._context()
        planned = self._planned(self.network, context)
        with context.use(planned.component, working_bytes=planned.working_bytes) as network:
            yield network, planned

    def _planned(self, network: Network, context: WorkerContext) -> Planned:
        return network.plan(context, {"": self._working})

    def _working(self, itemsize: int) -> int:
        return activations.wan_transformer(self.network.config, tokens=self._tokens, itemsize=itemsize)

    @property
    def _tokens(self) -> int:
        return token_count(self.network.config, *self.clip.noise.shape[1:])

    @staticmethod
    def _ram() -> float:
        """GB of RAM that this process holds."""
        return float(psutil.Process().memory_info().rss / 1e9)

    @property
    def _attention(self) -> str:
        return self.session.attention.told(half=self.device.type == "cuda")

    def _context(self, session: Session | None = None) -> WorkerContext:
        return (session or self.session).context(ENGINE, SPECS[ENGINE].model(MODEL))

    @contextmanager
    def _room_for_one(self, component: Component) -> Iterator[None]:
        """Room for one such network on the device, and for others in RAM."""
        budget = self.session.cache.device_budget_bytes
        self.session.cache.device_budget_bytes = int(1.5 * component.size_bytes)
        try:
            yield
        finally:
            self.session.cache.device_budget_bytes = budget


def _touched(network: WanTransformer3DModel) -> WanTransformer3DModel:
    """The network, every weight of it read once."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.view(-1)[:: 2**12].float().sum()
    return network
