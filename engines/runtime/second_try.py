"""A clip whose memory ran out is made once more, with the same seed, in the next lower plan of what ran out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from engines.errors import OutOfMemory
from engines.memory.devices import is_out_of_memory
from engines.request import Request
from engines.runtime.compiling import SHAPE, shape_of
from engines.runtime.context import WorkerContext
from engines.runtime.runner import pace_key, run
from engines.runtime.session import Session
from engines.types import EngineSpec

log = logging.getLogger(__name__)


def second_try(
    session: Session,
    spec: EngineSpec,
    request: Request,
    *,
    output_dir: Path,
    job_id: str,
    keep: Callable[[], bool] = lambda: False,
    inside: bool = True,
    certificate: Path | None = None,
    ahead: int = 0,
    within: Callable[[WorkerContext], AbstractContextManager[Any]] = nullcontext,
) -> Generator[Any, None, None]:
    """The events of `runner.run`; where memory runs out, everything is freed and the run begins anew, once.

    The second run leaves out the rungs (engines/memory/planning.py) on which memory ran out, and says so in a note,
    which stays in the clip's metadata.

    Args:
        request: with its seed drawn, so that both runs make the same clip.
        within: (context) -> the block in which the first try is made, and its context.
        ahead: steps of the clips of its shape that wait behind it: a network is compiled for all of them.

    Raises:
        StudioError: as `run`; OutOfMemory where it ran out again, or there is nothing lower.
    """
    model = spec.model(request.model)
    told: dict[str, Any] = {"output_dir": output_dir, "job_id": job_id, "pace": session.pace, "keep": keep}
    told |= {"inside": inside, "certificate": certificate}
    shape = shape_of(spec.name, request.model_dump(include=SHAPE))
    pace = session.pace.step_s.get(pace_key(spec, request, session.device.torch_device))
    compiles = session.compiling.wanted(shape, steps=request.steps + ahead, step_s=pace)
    context = session.context(spec.name, model, compiles=compiles)
    try:
        with within(context) as given:
            yield from run(spec, request, given, **told)
        if "blocks" in context.computed:
            session.compiling.made.add(shape)
        return
    except OutOfMemory as error:
        if not _ran_out(error):  # it was planned and refused: nothing lower was left then
            raise
        log.warning("memory ran out in job %s", job_id, exc_info=error)
        first = OutOfMemory(error.message, hint=error.hint)
        where, lower = context.ran_out, context.lowered()
    # Only here, where no traceback holds the frames of the run any more, can its memory be given back.
    del context
    session.free()
    place = f" in {where}" if where else ""
    note = (
        f"Memory ran out{place}: everything was freed, and the clip was made once more with the same seed, in a way "
        "that needs less."
    )
    try:
        yield from run(spec, request, session.context(spec.name, model, lower=lower), notes=(note,), **told)
    except OutOfMemory as error:
        if _ran_out(error):
            raise
        raise first from error


def _ran_out(error: OutOfMemory) -> bool:
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)
