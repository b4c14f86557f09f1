"""The studio as an API: four typed functions for gradio's clients. Their docstrings are what callers read."""

from __future__ import annotations

from typing import Any

import gradio as gr

from engines.errors import InvalidRequest, Problem, StudioError
from studio import kept_pictures
from studio.jobs.store import Job
from studio.page.uploads import received, served
from studio.service import Studio


def expose(studio: Studio) -> None:
    """Add the functions to the page that is being built."""
    calls = Calls(studio)
    for function in (calls.generate, calls.job, calls.cancel, calls.models):
        gr.api(function, api_name=function.__name__, queue=False)


class Calls:
    """The functions; jobs of the API belong to nobody's browser."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def generate(
        self, engine: str, prompt: str, references: list[gr.FileData], settings: dict[str, Any], variations: int = 1
    ) -> list[str]:
        """Queue a clip and return the ids of its jobs, one for each variation.

        Args:
            engine: which engine makes it, for example "phantom-wan".
            prompt: what happens in the clip.
            references: reference pictures, as handle_file() gives them; may be empty.
            settings: any other setting by name: model, seed, width, height, frames, steps, ...; a clip to be
                continued is named by the id of its job.
            variations: how many clips with seeds one after another.
        """
        try:
            spec = self._studio.spec(engine)
            for name in settings:
                info = spec.request_type.model_fields.get(name)
                if info is not None and kept_pictures.holds(info.annotation):
                    raise InvalidRequest(
                        [Problem(name, 'Give pictures as the parameter "references", each made by handle_file().')]
                    )
            given = [{"path": path} for path in map(received, references)]
            values = {"prompt": prompt} | settings | (kept_pictures.as_values(spec, given) if given else {})
            jobs = self._studio.submit(engine, values, variations=variations)
        except StudioError as error:
            raise gr.Error(str(error), title="Not queued", print_exception=False) from None
        return [job.id for job in jobs]

    def job(self, id: str) -> dict[str, Any]:
        """Tell how far a job is: its state, stage and step, and once it is done its video.

        Args:
            id: as generate returned it.
        """
        job = self._known(id)
        progress = self._studio.executor.progress(id)
        answer: dict[str, Any] = {"id": id, "state": job.state, "engine": job.engine, "seed": job.request.get("seed")}
        if progress is not None:
            answer |= {"stage": progress.stage, "step": progress.index, "steps": progress.total}
        if job.failure is not None:
            answer["error"] = f"{job.failure.message} {job.failure.hint}".strip()
        if job.result is not None:
            answer["seconds"] = job.result.seconds
            answer["video"] = gr.FileData(path=served(job.result.video), mime_type="video/mp4").model_dump()
        return answer

    def cancel(self, id: str, keep: bool = False) -> str:
        """End a job that waits or runs; returns its state.

        Args:
            id: as generate returned it.
            keep: whether what is finished becomes the clip, in engines that make it part by part.
        """
        self._known(id)
        self._studio.cancel(id, keep=keep)
        return self._known(id).state

    def models(self) -> list[dict[str, Any]]:
        """List the models of every engine, and why one cannot run here."""
        listed = []
        for spec in self._studio.specs.values():
            for model in spec.models:
                found = self._studio.availability(spec, model.name)
                entry = {"engine": spec.name, "model": model.name, "title": model.title, "note": model.note}
                listed.append(
                    entry | {"runnable": found.runnable, "reason": found.reason, "bytes": found.files.total_bytes}
                )
        return listed

    def _known(self, id: str) -> Job:
        job = self._studio.job(id)
        if job is None:
            raise gr.Error("There is no job with this id.", title="Unknown job", print_exception=False)
        return job
