"""An earlier clip made again: what of its making is still part of this studio."""

from __future__ import annotations

from collections.abc import Mapping

from engines.editing import spec as edits
from engines.request import control
from engines.types import EngineSpec, ModelSpec
from engines.wording import given
from studio import kept_files
from studio.jobs.store import Job


def model_of(specs: Mapping[str, EngineSpec], job: Job) -> ModelSpec | None:
    """The model that made the clip, None where it or its engine is gone."""
    spec = specs.get(job.engine)
    return next((model for model in spec.models if model.name == job.request.get("model")), None) if spec else None


def obstacle(specs: Mapping[str, EngineSpec], job: Job) -> str:
    """Why the clip's settings cannot be used again, in a sentence; "" if they can."""
    if edits.of_job(job.engine):
        return ""
    if job.engine not in specs:
        return (
            f"The engine that made this clip, {given(job.engine)}, is not part of this studio any more, "
            "so its settings cannot be used again. The clip can be played, downloaded and deleted."
        )
    if model_of(specs, job) is None:
        return (
            f"The model that made this clip, {given(job.request.get('model'))}, is not part of "
            f"{specs[job.engine].title} any more, so its settings cannot be used again. "
            "The clip can be played, downloaded and deleted."
        )
    return ""


def loss(job: Job) -> str:
    """Which of the files that the clip was made from are gone, in a sentence; "" if all of them are there."""
    gone = sum(not path.is_file() for path in kept_files.paths(dict(job.request)))
    if not gone:
        return ""
    which = "One of the files that it was made from is" if gone == 1 else f"{gone} files that it was made from are"
    return f"{which} not there any more: {'its place stays' if gone == 1 else 'their places stay'} empty."


def words(spec: EngineSpec | None, job: Job, *, most: int) -> str:
    """What the clip was asked to show, on one line: the first of its engine's texts that says something, shortened."""
    fields = spec.request_type.model_fields if spec is not None else {}
    extras = {name: control(info) for name, info in fields.items()}
    texts = [name for name, extra in extras.items() if extra.get("group") == "prompt" and not extra.get("advanced")]
    said = (" ".join(str(job.request.get(name) or "").split()) for name in texts or ["prompt"])
    text = next(filter(None, said), "")
    if (edit := edits.of_job(job.engine)) is not None:
        text = f"{edit.title}: {text}" if text else edit.title
    return f"{text[:most]}…" if len(text) > most else text
