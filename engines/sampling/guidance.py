"""Guidance: how several predictions of one network become one. Pure functions of predictions and scales.

Every published rule here is a weighted sum of predictions whose weights sum to one; a prediction of weight zero need
not be made at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

Condition = TypeVar("Condition")


def classifier_free(scale: float) -> dict[str, float]:
    """uncond + scale * (cond - uncond), as weights of the passes `cond` and `uncond`."""
    return {"cond": scale, "uncond": 1.0 - scale}


def subject(image_scale: float, text_scale: float) -> dict[str, float]:
    """Phantom: neg + image_scale * (pos_i - neg) + text_scale * (pos_it - pos_i), as weights of its three passes.

    `pos_it` sees pictures and prompt, `pos_i` pictures and negative prompt, `neg` the negative prompt alone.
    Source: Phantom phantom_wan/subject2video.py; 5 and 7.5 are published.
    """
    return {"pos_it": text_scale, "pos_i": image_scale - text_scale, "neg": 1.0 - image_scale}


def needed(weights: Mapping[str, float]) -> list[str]:
    """The passes that contribute, in the order of `weights`."""
    return [name for name, weight in weights.items() if weight != 0.0]


def guided(
    predict: Callable[[list[Condition]], torch.Tensor],
    conditions: Mapping[str, Condition],
    weights: Mapping[str, float],
    *,
    batched: bool,
) -> torch.Tensor:
    """The weighted sum of the predictions under `conditions`, leaving out passes of weight zero.

    Args:
        predict: [N conditions] -> predictions [N,C,F,h,w].
        batched: all passes in one call, or one after another (less memory, same numbers up to rounding).
    """
    names = needed(weights)
    if batched:
        predictions = predict([conditions[name] for name in names])
        return sum(weights[name] * prediction for name, prediction in zip(names, predictions, strict=True))
    return sum(weights[name] * predict([conditions[name]])[0] for name in names)
