"""Step caches: what a network computed at earlier steps stands in for what it would compute now. The clip changes.

diffusers' own hooks do it; what is here says which of them are offered, what they keep, and puts them on a network for
a job. They decide by the step alone, never by what was computed, so several devices decide alike. Every pass of
guidance has a memory of its own. Imports torch late: the page offers them, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from engines.errors import Problem, StudioError
from engines.memory.activations import width
from engines.request import MAX_STEPS, parameter
from engines.sampling import calibration

Name = Literal["none", "half", "third", "calibrated"]
EXTRAPOLATING = Literal["none", "half", "third"]
"""Those of loops of this project's own: see engines.sampling.extrapolated."""
NONE: Name = "none"
FIELD = "step_cache"  # of the requests of engines that have caches


@dataclass(frozen=True)
class StepCache:
    """No cache, and what the others are more than that.

    Attributes:
        title: for people; "" for none.
        least_steps: with fewer it would never act.
    """

    title: str = ""
    least_steps: int = 1

    @property
    def note(self) -> str:
        """What people should know of a clip that was made with it; "" for nothing."""
        if not self.title:
            return ""
        return f"Not every step was computed in full ({self.title}): the clip differs from one without a step cache."

    @property
    def beside(self) -> StepCache:
        """What people are told of it where nothing is put on the network, for the loop around it leaves steps out."""
        return StepCache(self.title, self.least_steps)

    def kept(self, config: Mapping[str, Any]) -> int:
        """Numbers that it keeps of each token of a pass, by the configuration of a Wan transformer."""
        return 0

    @contextmanager
    def on(self, network: Any) -> Iterator[None]:
        """The cache on a network for the length of the block: it begins empty, and nothing of it is left."""
        yield


@dataclass(frozen=True)
class _Hooked(StepCache):
    """A cache of diffusers'."""

    @contextmanager
    def on(self, network: Any) -> Iterator[None]:
        network.enable_cache(self._config(network))
        try:
            yield
            self._made(network)
        finally:
            network._reset_stateful_cache()
            network.disable_cache()

    def _config(self, network: Any) -> Any:
        raise NotImplementedError

    def _made(self, network: Any) -> None:
        """All steps were made."""


@dataclass(frozen=True)
class Taylor(_Hooked):
    """The network's output extrapolated from those that were computed last (TaylorSeer, arXiv 2503.06923).

    Extrapolating the outputs of every attention and feed-forward instead, as the paper does, was no closer to the whole
    clip on the starter, took longer, and keeps gigabytes a pass at published sizes.

    Attributes:
        interval: of so many steps one is computed, after the first `full` ones.
        order: of the polynomial.
    """

    interval: int = 2
    full: int = 5
    order: int = 1

    def computes(self, step: int) -> bool:
        """Whether a step, counted from 0, is computed: diffusers' rule."""
        return step < self.full or (step - self.full - 1) % self.interval == 0

    def kept(self, config: Mapping[str, Any]) -> int:
        return (self.order + 1) * int(config["out_channels"]) * math.prod(config["patch_size"])

    def _config(self, network: Any) -> Any:
        from diffusers.hooks import TaylorSeerCacheConfig

        return TaylorSeerCacheConfig(
            cache_interval=self.interval,
            disable_cache_before_step=self.full,
            max_order=self.order,
            taylor_factors_dtype=network.proj_out.weight.dtype,
            cache_identifiers=["proj_out"],
            skip_predict_identifiers=[r"blocks\.\d+"],
        )


@dataclass(frozen=True)
class Magnitude(_Hooked):
    """All blocks left out while what they add has hardly changed in size, by a checkpoint's own calibration (MagCache,
    arXiv 2506.09045).

    Attributes:
        ratios: by step: how large what the blocks add is, against the step before.
        steps: of the clip.
    """

    ratios: tuple[float, ...] = ()
    steps: int = 0
    threshold: float = 0.06
    most_skipped: int = 3
    full_share: float = 0.2

    def kept(self, config: Mapping[str, Any]) -> int:
        return width(config)

    @contextmanager
    def on(self, network: Any) -> Iterator[None]:
        from diffusers.hooks._helpers import TransformerBlockRegistry
        from torch.nn.utils.parametrize import type_before_parametrizations

        try:
            for block in network.blocks:  # an adapter on a block's own parameter gives it a class of its own, too
                known = TransformerBlockRegistry.get(type_before_parametrizations(block))
                TransformerBlockRegistry.register(type(block), known)
        except ValueError as error:  # sharing weights gives blocks a class of their own
            raise StudioError(
                "The step cache calibrated does not go with weights that lie on several devices.",
                hint="Choose the step cache half or third, or another split.",
            ) from error
        with super().on(network):
            yield

    def _config(self, network: Any) -> Any:
        from diffusers.hooks import MagCacheConfig

        return MagCacheConfig(
            threshold=self.threshold,
            max_skip_steps=self.most_skipped,
            retention_ratio=self.full_share,
            num_inference_steps=self.steps,
            mag_ratios=list(self.ratios),
        )


NO_CACHE = StepCache()
CACHES: dict[str, StepCache] = {
    NONE: NO_CACHE,
    "half": Taylor("TaylorSeer, every second step computed", least_steps=7),
    "third": Taylor("TaylorSeer, every third step computed", least_steps=7, interval=3),
    "calibrated": Magnitude("MagCache", least_steps=5),
}


def step_cache(*, calibrated: bool = True) -> Any:
    """The field of a request; `problems` goes with it. Without `calibrated` its type is EXTRAPOLATING, else Name."""
    extrapolated = (
        "Faster, but the clip changes: after the first steps only every second or third is computed, the others "
        "follow from them."
    )
    with_calibrated = (
        "Faster, but the clip changes: after the first steps only every second or third is computed, the others "
        "follow from them. calibrated leaves out the steps that the model can spare: that is measured once, by "
        "`python -m studio calibrate`."
    )
    return parameter(
        NONE,
        label="Step cache",
        help=with_calibrated if calibrated else extrapolated,
        group="quality",
        advanced=True,
    )


def calibrates(request_type: type[Any]) -> bool:
    """Whether an engine's step caches include the one that needs a calibration."""
    field = request_type.model_fields.get(FIELD)
    return field is not None and "calibrated" in get_args(field.annotation)


def problems(request: Any, *, steps: int | None = None) -> list[Problem]:
    """What is wrong with the step cache of a request; `steps` are those of its longest run, if not all of them."""
    least, steps = CACHES[request.step_cache].least_steps, request.steps if steps is None else steps
    if steps >= least:
        return []
    sentence = (
        f"The step cache {request.step_cache} never acts in a clip of {steps} steps: "
        f"choose none, or at least {least} steps."
    )
    return [Problem(FIELD, sentence)]


def chosen(name: str, *, steps: int, files: Sequence[Path]) -> StepCache:
    """The cache of this name for a clip.

    Args:
        files: the transformer's, beside which its calibration lies.

    Raises:
        StudioError: it has none, or it is damaged.
    """
    if (recorder := calibration.recorder()) is not None:
        return _Recorded(ratios=(), recorder=recorder)
    cache = CACHES[name]
    return replace(cache, ratios=calibration.read(files), steps=steps) if isinstance(cache, Magnitude) else cache


@dataclass(frozen=True)
class _Recorded(Magnitude):
    """Everything is computed, and how large what the blocks add is, step by step, is handed to a recorder."""

    recorder: Any = None

    def _config(self, network: Any) -> Any:
        from diffusers.hooks import MagCacheConfig

        return MagCacheConfig(calibrate=True, num_inference_steps=MAX_STEPS + 1)  # at the last one it would print

    def _made(self, network: Any) -> None:
        self.recorder.take(_recorded(network))


def _recorded(network: Any) -> list[list[float]]:
    """What diffusers' hook found, a list for each pass."""
    from diffusers.hooks.mag_cache import _MAG_CACHE_BLOCK_HOOK

    hook = network.blocks[-1]._diffusers_hook.get_hook(_MAG_CACHE_BLOCK_HOOK)
    return [state.calibration_ratios for state in hook.state_manager._state_cache.values()]
