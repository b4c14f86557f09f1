"""The studio as an API: eight typed functions for gradio's and MCP clients. Their docstrings are what callers read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from engines import __version__
from engines.editing import spec as edits
from engines.editing.spec import EditSpec
from engines.errors import InvalidRequest, Problem, StudioError
from engines.inputs import Media, with_files
from engines.types import EngineSpec
from engines.wording import given
from studio import editing, estimating, kept_files
from studio.jobs.store import Job
from studio.page.uploads import DATA_URL, received, served_if_there, written_out
from studio.page.visitor import CALLERS, caller, connection
from studio.service import Studio

_KINDS = {str: "text", list: "a list", dict: "an object of names and values", bool: "true or false"}
_ID = re.compile(r"[\w-]{1,100}", re.ASCII)


def expose(studio: Studio) -> None:
    """Add the functions to the page that is being built."""
    calls = Calls(studio)
    functions = (
        calls.generate, calls.estimate, calls.job, calls.cancel, calls.edit, calls.refine, calls.models, calls.status,
    )  # fmt: skip
    for function in functions:
        gr.api(function, api_name=function.__name__, queue=False)


class Calls:
    """The functions; jobs of the API belong to nobody's browser. `request` is gradio's, no parameter of a call."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def generate(
        self,
        engine: str,
        prompt: str,
        references: list[gr.FileData],
        settings: dict[str, Any],
        variations: int = 1,
        request: gr.Request | None = None,
    ) -> list[str]:
        """Queue a clip and return the ids of its jobs, one for each variation.

        Files are given as handle_file() makes them, or as data URLs. Among the settings, a clip to be continued is
        named by the id of its job, and a part of a file by its own name: "references.2.keep_background". Adapters are
        names in the studio's folder, or objects: {"path": "style.safetensors", "strength": 0.8, "begin": 0, "end": 1}.

        Args:
            engine: which engine makes it, for example "phantom-wan"; see models.
            prompt: what happens in the clip.
            references: reference pictures; may be empty.
            settings: any other setting by name: model, seed, width, height, frames, steps, picture, ...
            variations: how many clips with seeds one after another.
        """
        try:
            spec = self._studio.spec(_of(str, "engine", engine))
            _of(list, "references", references), _of(dict, "settings", settings)
            files = [{"path": path} for path in map(self._received, references)]
            values = {"prompt": prompt} | self._with_uploads(spec, settings)
            values |= kept_files.as_values(spec, files) if files else {}
            owner, here = caller(self._studio, request), connection(self._studio.settings, request)
            jobs = self._studio.submit(engine, values, owner=owner, connection=here, variations=variations)
        except StudioError as error:
            raise gr.Error(str(error), title="Not queued", print_exception=False) from None
        with closing(self._studio.executor.attend(jobs)) as attended:
            for _ in attended:  # where a GPU exists only inside a call, the clip is made before this one ends
                continue
        return [job.id for job in jobs]

    def estimate(self, engine: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Say what a clip would take, before it is made: memory, disk, time, and the smaller clip that fits.

        The verdict is "fits", "slower" (in parts or in another precision), "refused" or "unknown".

        Args:
            engine: which engine would make it.
            settings: model, width, height, frames, steps, ...; files are not needed.
        """
        try:
            spec = self._studio.spec(_of(str, "engine", engine))
            request = estimating.request_of(spec, _of(dict, "settings", settings))
            if request is None:
                raise InvalidRequest([Problem("settings", "No clip of this model, size and length can be made.")])
            found = self._studio.outlook(spec, request)
        except StudioError as error:
            raise gr.Error(str(error), title="No estimate", print_exception=False) from None
        return {"verdict": "unknown", "text": ""} if found is None else found.as_values()

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
            answer["error"] = job.failure.text
        if job.result is not None:
            answer["seconds"], video = job.result.seconds, served_if_there(job.result.video)
            if video is None:
                answer["error"] = "The file of the clip is not there any more."
            else:
                answer["video"] = gr.FileData(path=video, mime_type=_mime_type(job.result.video)).model_dump()
        return answer

    def cancel(self, id: str, keep: bool = False) -> str:
        """End a job that waits or runs; returns its state.

        Args:
            id: as generate returned it.
            keep: whether what is finished becomes the clip, in engines that make it part by part.
        """
        job = self._known(id)
        try:
            self._studio.cancel(id, owner=job.owner, keep=_of(bool, "keep", keep))
        except StudioError as error:
            raise gr.Error(str(error), title="Not cancelled", print_exception=False) from None
        return self._known(id).state

    def edit(self, edit: str, clip: str, settings: dict[str, Any], request: gr.Request | None = None) -> str:
        """Queue an edit of a finished clip and return the id of its job. The clip stays as it is.

        Edits: trim (start, end), join (then, fade), reverse, loop (times, way), smooth (factor, slow), captions (text,
        place, size), sound (sound, start, volume, fade, repeat), export (format, side, rate, quality).

        Args:
            edit: its name.
            clip: the id of the job that made the clip, as generate or edit returned it.
            settings: settings of the edit by name; another clip is named by the id of its job too, and a file is given
                as handle_file() makes it.
        """
        try:
            spec = edits.find(edit)
            job = self._known(clip)
            values = self._with_uploads(spec, _of(dict, "settings", settings)) | {"clip": job.id}
            if "network" in values:  # it would be a path of this machine
                raise InvalidRequest([Problem("network", "Networks are chosen on the page or the command line.")])
            owner, here = caller(self._studio, request), connection(self._studio.settings, request)
            made = editing.submit(self._studio, spec.name, values, owner=owner, connection=here)
        except StudioError as error:
            raise gr.Error(str(error), title="Not queued", print_exception=False) from None
        with closing(self._studio.executor.attend([made])) as attended:
            for _ in attended:
                continue
        return made.id

    def refine(
        self, engine: str, prompt: str, references: list[gr.FileData], model: str = ""
    ) -> dict[str, str | list[str]]:
        """Suggest a better prompt, with the reasons for what was changed. Nothing is queued.

        Args:
            engine: which engine the prompt is for.
            prompt: the prompt as it is.
            references: the pictures that go with it, given as to generate; may be empty.
            model: which of the engine's models; by default its first.
        """
        try:
            files = [self._received(file) for file in _of(list, "references", references)]
            if None in files:
                raise InvalidRequest([Problem("references", 'Give "references" as handle_file() makes them.')])
            pictures = [Path(file) for file in files if file]
            engine, prompt, model = (
                _of(str, name, value) for name, value in (("engine", engine), ("prompt", prompt), ("model", model))
            )
            found = self._studio.refine(engine, prompt, model=model, pictures=pictures)
        except StudioError as error:
            raise gr.Error(str(error), title="Not refined", print_exception=False) from None
        return {"prompt": found.text, "reasons": list(found.reasons), "by": found.by}

    def models(self) -> list[dict[str, Any]]:
        """List the models of every engine, and why one cannot run here."""
        listed = []
        for spec in self._studio.specs.values():
            for model in spec.models:
                found = self._studio.availability(spec, model.name)
                entry = {"engine": spec.name, "model": model.name, "title": model.title, "note": model.about}
                listed.append(
                    entry | {"runnable": found.runnable, "reason": found.reason, "bytes": found.files.total_bytes}
                )
        return listed

    def status(self) -> dict[str, Any]:
        """Tell how the studio is: its version, how many clips wait and are made, and its devices. Names no job."""
        active = self._studio.store.active()
        waiting = sum(job.state == "queued" for job in active)
        devices = [
            {"name": device.name, "title": device.title, "busy": device.busy}
            | {"free_bytes": device.free_bytes, "total_bytes": device.total_bytes, "held_bytes": device.held_bytes}
            for device in self._studio.executor.devices()
        ]
        return {"version": __version__, "waiting": waiting, "running": len(active) - waiting, "devices": devices}

    def _known(self, id: Any) -> Job:
        """The job of some program: who knows its id may ask for it."""
        job = self._studio.store.get(id) if isinstance(id, str) and _ID.fullmatch(id) else None
        if job is None or not (job.owner.startswith(CALLERS) or job.owner == caller(self._studio, None)):
            raise gr.Error("There is no job with this id.", title="Unknown job", print_exception=False)
        return job

    def _received(self, file: Any) -> str | None:
        """Path of an uploaded file, or of one that came as a data URL."""
        if _is_data(file):
            return written_out(file, most_bytes=self._studio.settings.most_upload_bytes)
        return received(file)

    def _with_uploads(self, spec: EngineSpec | EditSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with uploaded files in the fields that hold files; raises InvalidRequest for any other path."""
        # A text in place of a file is the id of a job, which is looked up for its owner.
        texts = {name: value for name, value in settings.items() if isinstance(value, str) and not _is_data(value)}
        files = {name: value for name, value in settings.items() if name not in texts}
        return with_files(spec.request_type, files, self._upload, leave=("earlier job", "adapter")) | texts

    def _upload(self, name: str, declared: Media, entry: Any) -> dict[str, Any]:
        """An uploaded file, alone or as the "path" of an object with its parts."""
        parts = entry if isinstance(entry, Mapping) else {}
        file = parts.get("path")
        path = self._received(file if isinstance(file, Mapping) or _is_data(file) else entry)
        if path is None:
            raise InvalidRequest([Problem(name, f'Give the files of "{name}" as handle_file() makes them.')])
        return {"path": path} | {part: parts[part] for part in declared.parts if part in parts}


def _mime_type(path: str) -> str:
    suffix = Path(path).suffix[1:]
    return f"video/{suffix}" if suffix == "mp4" else f"image/{suffix}"


def _is_data(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(DATA_URL)


def _of(kind: type, name: str, value: Any) -> Any:
    """`value`, if it is of this kind; raises InvalidRequest."""
    if not isinstance(value, kind):
        raise InvalidRequest([Problem(name, f'"{name}" must be {_KINDS[kind]}; you gave {given(value)}.')])
    return value
