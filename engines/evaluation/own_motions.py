"""Several subjects in one clip, each told to move in its own way: is it the right one that moves so?

The captions name each subject by one trait that its picture shows ("the striped one jumps"), and the pictures come in
any order, so that nothing but their content says which is which.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from engines.bindweave.components import BindWeaveModel
from engines.qwen.chat import text_then_pictures, tokenise
from engines.training.bindweave.chat_tokenizer import answer_ids
from engines.training.world import Clip

from . import cases, identity, subjects
from .cases import Case
from .motion import motion_name
from .product import Product

SEED = 45
TWO = dataclasses.replace(cases.TWO_WORLD, told_apart=1.0, own_motions=True, paraphrase=0.3)
THREE = dataclasses.replace(TWO, exact_count=3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A case, and the order in which its pictures are given."""

    case: Case
    order: tuple[int, ...]

    @property
    def clip(self) -> Clip:
        """The true clip."""
        return self.case.clip

    @property
    def pictures(self) -> tuple[np.ndarray, ...]:
        """The subjects' pictures as they are given."""
        return tuple(self.clip.references[index] for index in self.order)


def requests(count: int, *, three: bool = False) -> list[Request]:
    """The first `count` held-out requests with two subjects, or three."""
    found = []
    for number, case in enumerate(cases.cases(SEED, count, THREE if three else TWO)):
        order = np.random.default_rng((SEED, number)).permutation(len(case.clip.tracks))
        found.append(Request(case=case, order=tuple(map(int, order))))
    return found


def moves_right(video: np.ndarray, clip: Clip) -> list[bool]:
    """For every subject of the clip: does what looks most like it in the video (uint8 [T,H,W,3]) move as it was told?

    Each is looked for in a place of its own: of all ways to find them, the nearest counts.
    """
    wanted = clip.tracks
    found = subjects.split_subjects(subjects.subject_masks(video), len(wanted))
    spins = any(track.motion == "spins" for track in wanted)
    looks = [track.subject for track in wanted]
    gaps = [identity.distances(video, masks, looks, any_turn=spins) for masks in found]
    far = np.array([np.full(len(wanted), 1e6) if gap is None else gap for gap in gaps])
    ways = itertools.permutations(range(len(found)))
    best = min(ways, key=lambda way: sum(far[place, index] for index, place in enumerate(way)))
    return [motion_name(video, found[place]) == track.motion for place, track in zip(best, wanted, strict=True)]


def says_right(product: Product, request: Request, images: list[Any]) -> list[bool]:
    """For every given picture: does the small multimodal model, having read the prompt, say how its subject moves?

    Args:
        images: the request's pictures, RGB.
    """
    context = product.session.context(product.spec.name, product.model)
    model = BindWeaveModel.find(context)
    tokenizer = model.tokenizer()
    states = model.states(context, request.clip.caption, images)
    ids = tokenise(tokenizer, text_then_pictures(request.clip.caption, model.patches(images).tokens))[0]
    (ends,) = (ids == tokenizer.token_to_id("<|vision_end|>")).nonzero(as_tuple=True)
    use = model.mllm.planned(context)
    with context.use(use.component, working_bytes=use.working_bytes) as network:
        head = network.lm_head
        said = head(states[ends].to(head.weight)).argmax(-1).tolist()
    right = answer_ids(tokenizer)
    return [word == right[request.clip.tracks[index].motion] for word, index in zip(said, request.order, strict=True)]
