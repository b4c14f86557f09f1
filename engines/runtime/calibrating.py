"""A checkpoint calibrated for the step cache "calibrated": the steps of one clip, in full, and what they show kept.

Answers the task "calibrate" of engines/prompting/tasks.py: the question's text is the clip's request as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from engines.errors import InvalidRequest, Problem
from engines.events import Answer, Words
from engines.messages import Ask
from engines.registry import find, implementation
from engines.request import seeds
from engines.sampling import calibration
from engines.sampling.caches import CACHES, FIELD, NONE
from engines.types import EngineSpec, LatentStep
from engines.validation import build_request

if TYPE_CHECKING:
    from engines.runtime.session import Session

LEAST_STEPS = 8


def answer(question: Ask, session: Session) -> Generator[Words | Answer, None, None]:
    """Words after every step, and the name of the file that the calibration is in; raises as `calibrate`."""
    spec = find(question.engine)
    yield from calibrate(spec, build_request(spec, json.loads(question.text)), session)


def calibrate(spec: EngineSpec, request: Any, session: Session) -> Generator[Words | Answer, None, None]:
    """The same, of a checked request of an engine that has step caches.

    Raises:
        InvalidRequest: the clip shows too little.
        StudioError: as for any clip; or the file cannot be written.
    """
    if request.steps < LEAST_STEPS:
        sentence = f"A calibration needs a clip of {LEAST_STEPS} steps or more, best as many as clips will have."
        raise InvalidRequest([Problem("steps", sentence)])
    request = request.model_copy(update={"seed": seeds(request.seed)[0], FIELD: NONE})
    context = session.context(spec.name, spec.model(request.model))
    context.decodes = False
    with calibration.recorded() as found, closing(implementation(spec).generate(request, context)) as made:
        for item in made:
            if isinstance(item, LatentStep):
                yield Words(text=f"Step {item.index} of {item.total}.\n")
    yield Answer(text=calibration.write(context.paths("transformer"), found.ratios).name, by=CACHES["calibrated"].title)
