"""Guidance: how several predictions of one network become one. Pure functions of predictions and scales.

Every published rule here is a weighted sum of predictions whose weights sum to one; a prediction of weight zero need
not be made at all. So the passes of a step can be dealt to several devices, which add up what each has. Imports no
torch: which passes a request needs is asked before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

    from engines.sampling.denoise import SamplingStep

Condition = TypeVar("Condition")


@dataclass(frozen=True)
class NetworkCall:
    """What one call of the network computes, for what is kept between calls: the passes in its batch, and when."""

    passes: tuple[str, ...]
    step: SamplingStep


def classifier_free(scale: float) -> dict[str, float]:
    """uncond + scale * (cond - uncond), as weights of the passes `cond` and `uncond`."""
    return {"cond": scale, "uncond": 1.0 - scale}


def text_weights(scale: float) -> dict[str, float]:
    """As `classifier_free`, but a scale of 1 or less leaves `uncond` out, as FlashI2V's and BindWeave's code do."""
    return classifier_free(max(scale, 1.0))


def off_at_zero(scale: float) -> dict[str, float]:
    """As `classifier_free`, but a scale of 0 is no guidance, as Pyramid Flow's code has it, not `uncond` alone."""
    return classifier_free(scale or 1.0)


def subject(image_scale: float, text_scale: float) -> dict[str, float]:
    """Phantom: neg + image_scale * (pos_i - neg) + text_scale * (pos_it - pos_i), as weights of its three passes.

    `pos_it` sees pictures and prompt, `pos_i` pictures and negative prompt, `neg` the negative prompt alone.
    Source: Phantom phantom_wan/subject2video.py; 5 and 7.5 are published.
    """
    return {"pos_it": text_scale, "pos_i": image_scale - text_scale, "neg": 1.0 - image_scale}


class Dealer(Protocol):
    """Who makes which passes."""

    def own(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Those to be made here, at least one; of weight 0 if it does not count."""
        ...

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of what all made, from the sum of what was made here."""
        ...


class _Alone:
    def own(self, weights: Mapping[str, float]) -> dict[str, float]:
        return dict(weights)

    def total(self, part: torch.Tensor) -> torch.Tensor:
        return part


ALONE: Dealer = _Alone()
_dealer: ContextVar[Dealer] = ContextVar("dealer", default=ALONE)


@contextmanager
def dealt(dealer: Dealer) -> Iterator[None]:
    """For the length of the block, `dealer` says who makes which passes."""
    before = _dealer.get()
    _dealer.set(dealer)
    try:
        yield
    finally:
        _dealer.set(before)


def dealer() -> Dealer:
    """Who says now which passes are made here."""
    return _dealer.get()


def needed(weights: Mapping[str, float]) -> list[str]:
    """The passes that contribute, in the order of `weights`."""
    return [name for name, weight in weights.items() if weight != 0.0]


def guided(
    predict: Callable[..., torch.Tensor],
    conditions: Mapping[str, Condition],
    weights: Mapping[str, float],
    *,
    batched: bool,
    step: SamplingStep | None = None,
) -> torch.Tensor:
    """The weighted sum of the predictions under `conditions`, leaving out passes of weight zero.

    Args:
        predict: [N conditions] -> predictions [N,C,F,h,w]; with a `step`, ([N conditions], NetworkCall).
        batched: all passes in one call, or one after another (less memory, same numbers up to rounding).
        step: where the run is, for a network that wants to know what it is called for.
    """

    def called(*names: str) -> torch.Tensor:
        batch = [conditions[name] for name in names]
        return predict(batch) if step is None else predict(batch, NetworkCall(names, step))

    own = dealer().own({name: weights[name] for name in needed(weights)})
    if batched:
        made = sum(weight * prediction for weight, prediction in zip(own.values(), called(*own), strict=True))
    else:
        made = sum(weight * called(name)[0] for name, weight in own.items())
    return dealer().total(made)
