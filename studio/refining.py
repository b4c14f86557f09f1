"""A better prompt: one question, whoever asks it, the page, the API or the command line."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines.errors import InvalidRequest, Problem, StudioError
from engines.events import Answer, Words
from engines.loading.store import Store
from engines.media.pictures import picture_problem
from engines.messages import Ask
from engines.prompting import endpoint
from engines.prompting.local_models import LOCAL_MODELS
from engines.prompting.tasks import REFINERS, refining_task
from engines.types import EngineSpec
from engines.validation import build_request
from studio.settings import Settings


def choices(settings: Settings, files: Store) -> list[tuple[str, str]]:
    """(title, name) of every refiner that can be used here, the one that the settings name first.

    The endpoint can be used where the environment tells it, a language model where its files are. Strangers have the
    one of the settings alone: another may cost its owner.
    """
    titles = {"rules": "by rules"}
    if all(os.environ.get(name) for name in (endpoint.ADDRESS, endpoint.MODEL)):
        titles["endpoint"] = f"by {os.environ[endpoint.MODEL]}"
    for name in REFINERS:
        local = LOCAL_MODELS.get(refining_task(name))
        if local is not None and files.state(local.engine, local.spec).state == "installed":
            titles[name] = f"by {local.spec.title}"
    first = (titles.get(settings.refiner, f"by {settings.refiner}"), settings.refiner)
    others = [] if settings.public else [(title, name) for name, title in titles.items() if name != settings.refiner]
    return [first, *others]


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
