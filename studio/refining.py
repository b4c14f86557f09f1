"""A better prompt: one question, whoever asks it, the page, the API or the command line."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines.errors import InvalidRequest, Problem, StudioError
from engines.events import Answer, Words
from engines.media.pictures import picture_problem
from engines.messages import Ask
from engines.prompting.tasks import refining_task
from engines.types import EngineSpec
from engines.validation import build_request


def question(
    spec: EngineSpec, prompt: str, *, model: str = "", pictures: Sequence[Path] = (), refiner: str = "rules"
) -> Ask:
    """The question for a better `prompt` with these pictures, in their order, to one of REFINERS.

    Raises:
        InvalidRequest: what Generate would say of such a prompt, were it not empty, of such a model or pictures.
    """
    name = model or spec.models[0].name
    try:
        build_request(spec, {"prompt": prompt, "model": name})
    except InvalidRequest as error:
        asked = ("prompt", "model") if prompt.strip() else ("model",)
        if problems := [problem for problem in error.problems if problem.field in asked]:
            raise InvalidRequest(problems) from None
    wrong = [said for path in pictures if (said := picture_problem(path, pixels=False))]
    if wrong:
        raise InvalidRequest([Problem("pictures", said) for said in wrong])
    kept = tuple(path.absolute() for path in pictures)
    return Ask(
        id=secrets.token_hex(8), task=refining_task(refiner), text=prompt, pictures=kept, engine=spec.name, model=name
    )


def whole(said: Iterable[Words | Answer]) -> Answer:
    """The answer at the end of what was said."""
    for piece in said:
        if isinstance(piece, Answer):
            return piece
    raise StudioError("There was no answer.")
