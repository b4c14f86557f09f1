"""Events of an engine's tab. They read the page, submit to the studio and read back; none of them makes a clip."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr

from engines.errors import InvalidRequest, Problem, StudioError
from engines.types import EngineSpec
from studio import continuing
from studio.page import panel
from studio.page.fields import Control
from studio.page.uploads import served
from studio.service import Studio

SKIP = gr.skip()


@dataclass
class Form:
    """The controls of one engine's tab, in the order their components are given to events."""

    spec: EngineSpec
    controls: list[Control] = field(default_factory=list)

    @property
    def components(self) -> list[Any]:
        """Every component that holds a value."""
        return [component for control in self.controls for component in control.components]

    def read(self, raw: Sequence[Any]) -> dict[str, Any]:
        """Request values from what the components hold; raises InvalidRequest."""
        values: dict[str, Any] = {}
        position = 0
        for control in self.controls:
            count = len(control.components)
            values |= control.read(raw[position : position + count])
            position += count
        return values

    def show(self, values: Mapping[str, Any], *, only_model: bool = False) -> list[Any]:
        """What the components should hold for `values`; `only_model` leaves alone what no model decides."""
        model = self.spec.model(values["model"])
        shown: list[Any] = []
        for control in self.controls:
            if only_model and not control.follows_model:
                shown += [SKIP for _ in control.components]
            else:
                shown += control.show(values, model)
        return shown

    @property
    def picture(self) -> Control | None:
        """The control that holds pictures, None where the engine takes none."""
        return next((control for control in self.controls if control.board is not None), None)

    def component(self, name: str) -> Any:
        """The first component of the control that holds field `name`."""
        return next(control.components[0] for control in self.controls if name in control.names)


def visitor(studio: Studio, browser: Any) -> dict[str, Any]:
    """What this browser remembers, with a name for its owner where strangers share the studio."""
    known = dict(browser) if isinstance(browser, Mapping) else {}
    if not studio.settings.public:
        known["owner"] = ""
    elif not isinstance(known.get("owner"), str) or len(known["owner"]) < 32:
        known["owner"] = secrets.token_hex(16)
    return known


class Result(NamedTuple):
    """The result panel: its components, or what each of them should hold."""

    status: Any = SKIP
    preview: Any = SKIP
    playback: Any = SKIP
    video: Any = SKIP
    download: Any = SKIP
    cancel: Any = SKIP
    keep: Any = SKIP
    longer: Any = SKIP
    strip: Any = SKIP
    timer: Any = SKIP
    seen: Any = SKIP
    clip: Any = SKIP


class Panel:
    """The events of one tab and its result panel."""

    def __init__(self, studio: Studio, form: Form) -> None:
        self.studio, self.form, self.spec = studio, form, form.spec

    def generate(self, browser: Any, variations: float, *raw: Any) -> Iterator[list[Any]]:
        """Queue the clip that the form describes and show it waiting.

        Outputs: problems, browser memory, then those of `render`.
        """
        known = visitor(self.studio, browser)
        try:
            values = self.form.read(raw)
            jobs = self.studio.submit(self.spec.name, values, owner=known["owner"], variations=int(variations))
        except InvalidRequest as error:
            gr.Warning(error.problems[0].message, title="Please change this first")
            yield [panel.problems(error.problems), SKIP, *Result()]
            return
        except StudioError as error:
            gr.Warning(str(error), title="Not queued")
            yield [panel.problems([Problem("", str(error))]), SKIP, *Result()]
            return
        known[self.spec.name] = jobs[0].batch
        yield ["", known, *self.render(known, {})]
        for _ in self.studio.executor.attend(jobs):
            yield [SKIP, SKIP, *self.render(known, {})]

    def load(self, browser: Any) -> list[Any]:
        """Find the clip that this browser, or the studio, is at. Outputs: browser memory, then those of `render`."""
        known = visitor(self.studio, browser)
        batch = str(known.get(self.spec.name, ""))
        active = [job for job in self.studio.store.active(owner=known["owner"]) if job.engine == self.spec.name]
        if active and not any(job.batch == batch for job in active):
            known[self.spec.name] = active[0].batch
        return [known, *self.render(known, {})]

    def tick(self, browser: Any, seen: Any) -> Result:
        """What changed since the last look."""
        return self.render(visitor(self.studio, browser), seen or {})

    def cancel(self, browser: Any, seen: Any, *, keep: bool = False) -> Result:
        """End the jobs shown, the last one first so that none of them begins meanwhile."""
        known = visitor(self.studio, browser)
        for job in reversed(self.studio.store.batch(str(known.get(self.spec.name, "")))):
            if job.active:
                self.studio.cancel(job.id, owner=known["owner"], keep=keep)
        return self.render(known, seen or {})

    def keep(self, browser: Any, seen: Any) -> Result:
        """End the jobs shown, and make a clip of what the running one has finished."""
        return self.cancel(browser, seen, keep=True)

    def earlier_clips(self, browser: Any) -> Any:
        """The clips that this visitor can continue, for the list of them."""
        owner = visitor(self.studio, browser)["owner"]
        return gr.update(choices=continuing.choices(self.studio, self.spec, owner=owner))

    def continue_clip(self, browser: Any, clip: Any, *, names: Set[str] | None = None) -> list[Any]:
        """The form with all settings that continue a finished clip, or with those of `names` alone.

        Untouched where there is no such clip. Outputs: the form's components.
        """
        owner = visitor(self.studio, browser)["owner"]
        job = self.studio.job(str(clip or ""), owner=owner)
        if job is None or not continuing.possible(self.spec, job):
            return [SKIP for _ in self.form.components]
        values, model = continuing.values(self.spec, job), self.spec.model(job.request["model"])
        shown: list[Any] = []
        for control in self.form.controls:
            if continuing.FIELD in control.names:
                choices = continuing.choices(self.studio, self.spec, owner=owner)
                shown.append(gr.update(choices=choices, value=job.id))
            elif names is None or names & set(control.names):
                shown += control.show(values, model)
            else:
                shown += [SKIP for _ in control.components]
        return shown

    def fit_earlier(self, browser: Any, clip: Any) -> list[Any]:
        """What a clip to be continued decides: model, size, length, seed and no picture; what was written stays."""
        pictures = self.form.picture.names if self.form.picture else ()
        return self.continue_clip(browser, clip, names={"model", "width", "frames", "seed", *pictures})

    def reading(self, name: str, text: Any, frames: Any, fps: Any) -> str:
        """What a text means for a clip of this length, or what is wrong with it, as HTML."""
        longest = max(model.geometry.max_frames for model in self.spec.models)
        if not (frames and fps and 1 <= frames <= longest and fps >= 1):  # a number is being typed
            return ""
        try:
            return panel.reading(self.spec.readings[name](str(text or ""), int(frames), int(fps)))
        except ValueError as error:
            return panel.reading(str(error), wrong=True)

    def pick(self, browser: Any, event: gr.SelectData) -> list[Any]:
        """Show another of the clips made together. Outputs: status, video, download, the clip's id."""
        known = visitor(self.studio, browser)
        clips = panel.clips(self.studio, str(known.get(self.spec.name, "")), owner=known["owner"])
        if not 0 <= event.index < len(clips):
            return [SKIP, SKIP, SKIP, SKIP]
        clip = clips[event.index]
        path = served(clip.result.video)
        return [panel.finished(self.spec, clip), path, path, clip.id]

    def render(self, known: Mapping[str, Any], seen: Mapping[str, Any]) -> Result:
        """What the panel should hold now; SKIP where that has been `seen`, for a video sent again starts over."""
        batch = str(known.get(self.spec.name, ""))
        now = panel.view(self.studio, self.spec, batch, owner=known["owner"])
        clip = now.clip.id if now.clip else ""
        fresh = {"status": now.status, "clip": clip, "active": now.active, "keepable": now.keepable}
        fresh |= {"preview": str(hash(now.preview)), "playback": str(hash(now.playback))}
        changed = {name for name, value in fresh.items() if seen.get(name) != value}
        shown = Result(seen=fresh if changed else SKIP)
        if "status" in changed:
            shown = shown._replace(status=now.status)
        if "preview" in changed:
            shown = shown._replace(preview=gr.update(value=now.preview, visible=bool(now.preview)))
        if "playback" in changed:
            shown = shown._replace(playback=gr.update(value=now.playback, visible=bool(now.playback)))
        if "keepable" in changed:
            shown = shown._replace(keep=gr.update(visible=now.keepable))
        if "clip" in changed:
            path = served(now.clip.result.video) if now.clip and now.clip.result else None
            video, download = (gr.update(value=path, visible=path is not None) for _ in range(2))  # gradio changes them
            clips = panel.clips(self.studio, batch, owner=known["owner"])
            posters = [(served(one.result.poster), f"seed {one.request['seed']}") for one in clips if one.result]
            strip = gr.update(value=posters, visible=len(posters) > 1 and path is not None)
            longer = gr.update(visible=now.clip is not None and continuing.possible(self.spec, now.clip))
            shown = shown._replace(video=video, download=download, longer=longer, strip=strip, clip=clip)
        if "active" in changed:
            word = "Cancel" if now.active < 2 else f"Cancel all {now.active}"
            cancel = gr.update(value=word, visible=now.active > 0)
            shown = shown._replace(cancel=cancel, timer=gr.Timer(active=now.active > 0))
        return shown

    def last_seed(self, browser: Any) -> Any:
        """The seed of the clip made last."""
        known = visitor(self.studio, browser)
        jobs = self.studio.store.batch(str(known.get(self.spec.name, ""))) or self.studio.store.finished(
            owner=known["owner"], limit=1
        )
        return jobs[-1].request["seed"] if jobs else SKIP

    def model_chosen(self, model: str) -> list[Any]:
        """The model's own choices and defaults. Outputs: the form's components."""
        if model not in {known.name for known in self.spec.models}:
            return [SKIP for _ in self.form.components]
        return self.form.show(self.spec.default_values(model), only_model=True)

    def model_note(self, model: str) -> str:
        """What a person should know of a model, as text."""
        if model not in {known.name for known in self.spec.models}:
            return ""
        found = self.studio.availability(self.spec, model)
        return " ".join(part for part in (found.reason or self.spec.model(model).note, found.warning) if part)
