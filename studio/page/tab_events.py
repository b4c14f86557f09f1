"""Events of an engine's tab. They read the page, submit to the studio and read back; none of them makes a clip.

Each returns what it changes: a component -> its new value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import gradio as gr

from engines.errors import StudioError
from engines.validation import text_problem
from engines.wording import given
from studio import continuing, queue, remaking
from studio.jobs.store import Job
from studio.page import about_clip, compare, editing, markup, panel, start_from
from studio.page.controls import Controls
from studio.page.form import Form
from studio.page.plumbing import Updates, changed, mapping, warn
from studio.page.result import CLIP_CLASSES, ResultColumn, card_of, classes
from studio.page.uploads import served_if_there
from studio.page.visitor import connection, visitor
from studio.service import Studio

_LARGE = ("preview", "playback")


class TabEvents:
    """The events of one tab."""

    def __init__(self, studio: Studio, controls: Controls, result: ResultColumn, *, browser: gr.BrowserState) -> None:
        self.studio, self.controls, self.result, self.browser = studio, controls, result, browser
        self.form: Form = controls.form
        self.spec = controls.form.spec

    def generate(self, request: gr.Request | None, browser: Any, variations: float, *raw: Any) -> Iterator[Updates]:
        """Queue the clip that the form describes and show it waiting; one that waits and is edited changes in place."""
        known = visitor(self.studio, browser)
        try:
            values = self.form.read(raw)
            here = connection(self.studio.settings, request)
            edited = editing.edited(self.studio, known)
            if edited is not None and edited.engine == self.spec.name:
                queue.edit(self.studio, edited.id, self.spec.name, values, owner=known["owner"])
                known.pop(editing.KEY)
                again = gr.update(value=editing.GENERATE)
                yield {self.controls.problems: "", self.browser: known, self.controls.generate: again}
                return
            jobs = self.studio.submit(
                self.spec.name, values, owner=known["owner"], connection=here, variations=int(variations)
            )
        except StudioError as error:
            yield {self.controls.problems: markup.refused(error)}
            return
        yield from self.watch(known, jobs, self.controls.problems)

    def watch(self, known: dict[str, Any], jobs: Sequence[Job], told: gr.HTML) -> Iterator[Updates]:
        """Show jobs that were just queued until all are over; `told` held what was wrong before."""
        known[self.spec.name] = jobs[0].batch
        with closing(self.studio.executor.attend(jobs)) as attended:
            yield {told: "", self.browser: known} | self.updates(known, {})
            for _ in attended:
                yield changed(self.updates(known, {}))

    def load(self, browser: Any, seen: Any = None) -> Any:
        """Find the clip that this browser, or the studio, is at, when the tab is opened."""
        known = visitor(self.studio, browser)
        batch = self._batch(known)
        if batch == known.get(self.spec.name, ""):  # what Generate remembers meanwhile is not written over
            return changed(self.updates(known, seen))
        known[self.spec.name] = batch
        return {self.browser: known} | self.updates(known, seen)

    def tick(self, browser: Any, seen: Any) -> Any:
        """What changed since the last look."""
        return changed(self.updates(visitor(self.studio, browser), seen))

    @staticmethod
    def rests(seen: Any) -> bool:
        """Whether a column that shows what was `seen` tells of nothing that is being made."""
        none = _digest(0)
        return str(mapping(seen).get("active", none)) == none

    def cancel(self, browser: Any, seen: Any, *, keep: bool = False) -> Any:
        """End the jobs shown, the last one first so that none of them begins meanwhile."""
        known = visitor(self.studio, browser)
        for job in reversed(self.studio.store.batch(self._batch(known))):
            if job.active:
                self.studio.cancel(job.id, owner=known["owner"], keep=keep)
        return changed(self.updates(known, seen))

    def keep(self, browser: Any, seen: Any) -> Any:
        """End the jobs shown, and make a clip of what the running one has finished."""
        return self.cancel(browser, seen, keep=True)

    def retry(self, request: gr.Request | None, browser: Any, seen: Any) -> Any:
        """Queue once more what ended without a clip, as it was."""
        return self._retry(request, browser, seen)

    def retry_smaller(self, request: gr.Request | None, browser: Any, seen: Any) -> Any:
        """Queue once more what failed, with less to make."""
        return self._retry(request, browser, seen, smaller=True)

    def _retry(self, request: gr.Request | None, browser: Any, seen: Any, *, smaller: bool = False) -> Any:
        known, here = visitor(self.studio, browser), connection(self.studio.settings, request)
        job = panel.view(self.studio, self.spec, self._batch(known), owner=known["owner"]).retry
        if job is not None:
            changes = queue.smaller(self.spec, job) if smaller else {}
            try:
                queue.retry(self.studio, job.id, changes=changes, owner=known["owner"], connection=here)
            except StudioError as error:
                warn(str(error))
        return changed(self.updates(known, seen))

    def compare(self, browser: Any) -> str:
        """The clips made together, in step."""
        known = visitor(self.studio, browser)
        jobs = panel.clips(self.studio, self._batch(known), owner=known["owner"])
        return compare.show(self.studio.specs, jobs)

    def earlier_clips(self, browser: Any) -> Any:
        """The clips that this visitor can continue, for the list of them."""
        owner = visitor(self.studio, browser)["owner"]
        return gr.update(choices=continuing.choices(self.studio, self.spec, owner=owner))

    def continue_clip(self, browser: Any, clip: Any, *, names: set[str] | None = None, anew: bool = False) -> Updates:
        """The form with all settings that continue a finished clip, or with those of `names` alone.

        Nothing where there is no such clip. With `anew` its last scene is made anew; which one, the form then says.
        """
        owner = visitor(self.studio, browser)["owner"]
        job = self.studio.job(str(clip or ""), owner=owner)
        if job is None or not (continuing.cuts if anew else continuing.kept)(self.spec, job):
            return {}
        values = (continuing.anew if anew else continuing.values)(self.spec, job)
        updates = self.form.show(values, names=names)
        choices = continuing.choices(self.studio, self.spec, owner=owner)
        earlier = self.form.component(str(self.spec.field_of("earlier job")))
        return updates | {earlier: gr.update(choices=choices, value=job.id)}

    def go_on(self, browser: Any, clip: Any) -> Any:
        """Fill the form with what continues the clip shown, or say why it cannot go on."""
        updates = self.continue_clip(browser, clip)
        if not updates:
            warn("This clip cannot be continued: what it ended with is not there any more.")
        return changed(updates)

    def make_anew(self, browser: Any, clip: Any) -> Any:
        """Fill the form with what makes the last scene of the clip shown anew, or say why that cannot be done."""
        updates = self.continue_clip(browser, clip, anew=True)
        if not updates:
            warn("This clip cannot be made anew from a scene: what it was made from is not there any more.")
        return changed(updates)

    def can_be_kept(self, browser: Any, clip: Any, held: Any, text: Any, frames: Any, fps: Any) -> Any:
        """What of the clip to continue can be kept, by the scenes of the form; what was chosen stays where it can."""
        job = self.studio.job(str(clip or ""), owner=visitor(self.studio, browser)["owner"])
        cuts: dict[int, int] = {}
        if job is not None and self._is_length(frames, fps):
            for name in self.spec.cuts:
                with suppress(ValueError):  # it is being written
                    if text_problem(self.spec.request_type, name, text or "") is None:
                        cuts |= self.spec.cuts[name](text or "", int(frames), int(fps))
            cuts = {number: count for number, count in cuts.items() if count < job.frames}
        chosen = held if job is not None and isinstance(held, int) and 0 < held <= job.frames else 0
        return gr.update(choices=start_from.choices(cuts, int(fps) if cuts else 0, chosen), value=chosen)

    def fit_earlier(self, browser: Any, clip: Any) -> Any:
        """What a clip to be continued decides: model, size, length, seed and no picture; what was written stays."""
        pictures = self.form.picture.names if self.form.picture else ()
        return changed(self.continue_clip(browser, clip, names={"model", "width", "frames", "seed", *pictures}))

    def reading(self, name: str, text: Any, frames: Any, fps: Any) -> str:
        """What a text means for a clip of this length, or what is wrong with it, as HTML."""
        if not self._is_length(frames, fps):  # a number is being typed
            return ""
        try:
            if wrong := text_problem(self.spec.request_type, name, text or ""):
                raise ValueError(wrong.message)
            line = markup.Line(self.spec.readings[name](text or "", int(frames), int(fps)))
        except ValueError as error:
            line = markup.Line(str(error), "problem")
        return markup.lines([line])

    def _is_length(self, frames: Any, fps: Any) -> bool:
        longest = max(model.geometry.max_frames for model in self.spec.models)
        numbers = all(isinstance(one, int | float) for one in (frames, fps))
        return numbers and 1 <= frames <= longest and fps >= 1

    def pick(self, browser: Any, event: gr.SelectData) -> Any:
        """Show another of the clips made together."""
        known = visitor(self.studio, browser)
        clips = [job for job, _ in self._variations(self._batch(known), known["owner"])]
        if not 0 <= event.index < len(clips):
            return gr.skip()
        card = markup.card(panel.finished(self.spec, clips[event.index]))
        return {self.result.status: card} | self._clip(clips[event.index])

    def updates(self, known: Mapping[str, Any], seen: Any) -> Updates:
        """What the result column should hold now, without what has been `seen`: a video sent again starts over."""
        column, batch, seen = self.result, self._batch(known), mapping(seen)
        newest = bool(column.newest) and bool(self.studio.store.finished(owner=known["owner"], limit=1))
        now = panel.view(self.studio, self.spec, batch, owner=known["owner"])
        parts: dict[str, tuple[Any, Updates]] = {
            "status": (now.card, {column.status: markup.card(now.card)}),
            "preview": ((now.preview, bool(now.playback)), {column.preview: self._picture(now, now.preview)}),
            "playback": (now.playback, {column.playback: self._playback(now)}),
            "keepable": (now.keepable, {column.keep: gr.update(visible=now.keepable)}),
            "retry": (now.retry and now.retry.id, self._retrying(now.retry)),
            "active": (now.active, self._activity(now.active)),
            "newest": (newest, {button: gr.update(visible=newest) for button in column.newest}),
        }
        fresh = {name: _digest(state) for name, (state, _) in parts.items()}
        fresh["clip"] = f"{batch}/{now.clip.id}" if now.clip else ""
        new = {name for name, digest in fresh.items() if seen.get(name) != digest}
        updates: Updates = {}
        for name, (_, shown) in parts.items():
            # What is small comes with whatever is new: an answer from before may have come between and told otherwise.
            if name in new or (new and name not in _LARGE):
                updates |= shown
        if "clip" in new:
            updates |= self._clip(now.clip) | self._together(batch, known["owner"], now.clip)
        return updates | {column.seen: fresh} if updates else {}

    def _batch(self, known: Mapping[str, Any]) -> str:
        """The jobs that the column shows: those asked for last, but what is still being made before what is over."""
        last = str(known.get(self.spec.name, ""))
        active = [job for job in self.studio.store.active(owner=known["owner"]) if job.engine == self.spec.name]
        return active[0].batch if active and not any(job.batch == last for job in active) else last

    def _clip(self, job: Job | None) -> Updates:
        """The player and what can be done with the clip it plays; hidden without one."""
        column = self.result
        path = served_if_there(job.result.video) if job and job.result else None
        small = job is not None and panel.own_pixels(self.spec, job)
        longer = job is not None and continuing.possible(self.spec, job)
        return {
            column.video: gr.update(
                value=path,
                visible=path is not None,
                elem_classes=classes(*CLIP_CLASSES, own_pixels=small, fps=job.request.get("fps") if job else None),
            ),
            column.download: gr.update(value=path, visible=path is not None),
            column.longer: gr.update(visible=longer),
            column.anew: gr.update(visible=job is not None and bool(continuing.cuts(self.spec, job))),
            column.seed: gr.update(visible=job is not None),
            column.again: gr.update(visible=job is not None),
            column.about: gr.update(value=about_clip.html(self.spec, job) if job else "", visible=job is not None),
            column.clip: job.id if job else "",
        }

    def _retrying(self, job: Job | None) -> Updates:
        again = job is not None and not remaking.obstacle(self.studio.specs, job)
        changes = queue.smaller(self.spec, job) if job is not None and again and job.state == "failed" else {}
        word = f"Try {queue.smaller_words(job, changes)}" if job is not None and changes else ""
        return {
            self.result.retry: gr.update(visible=again),
            self.result.smaller: gr.update(value=word, visible=bool(word)),
        }

    def _together(self, batch: str, owner: str, shown: Job | None) -> Updates:
        """The clips made together, to choose from and to compare; with and without a branch, they play at once."""
        found = self._variations(batch, owner)
        jobs = [job for job, _ in found]
        same_seed = len({job.request["seed"] for job in jobs}) < len(jobs)
        labels = compare.labels(self.studio.specs, jobs) if same_seed else map(panel.variation, jobs)
        cards = [(card, label) for (_, card), label in zip(found, labels, strict=True)]
        several = len(cards) > 1 and shown is not None
        strip = gr.update(value=cards, visible=several)
        made = panel.clips(self.studio, batch, owner=owner)  # not by surprise: with the branch comes first
        beside = several and compare.with_and_without(self.spec, made)
        return {
            self.result.strip: strip,
            self.result.compare: gr.update(visible=several, open=beside),
            self.result.compared: compare.show(self.studio.specs, made) if beside else "",
        }

    def _variations(self, batch: str, owner: str) -> list[tuple[Job, str]]:
        """The clips made together that are still there, each with the file that stands for it in the strip."""
        found = [(job, card_of(job)) for job in panel.ranked(panel.clips(self.studio, batch, owner=owner))]
        return [(job, card) for job, card in found if card is not None]

    def _picture(self, now: panel.View, webp: bytes | None) -> Any:
        """The clip as it stands: large, or small beside its finished part, which then is the one that plays."""
        shown = "" if webp is None else markup.preview(webp, now.size)
        beside = ["inset"] if now.playback else []
        return gr.update(value=shown, visible=bool(shown), elem_classes=classes(*beside, own_pixels=now.own_pixels))

    def _playback(self, now: panel.View) -> Any:
        shown = markup.playback(now.playback, now.size)
        return gr.update(value=shown, visible=bool(shown), elem_classes=classes(own_pixels=now.own_pixels))

    def _activity(self, active: int) -> Updates:
        word = "Cancel" if active < 2 else f"Cancel all {active}"
        return {
            self.result.cancel: gr.update(value=word, visible=active > 0),
            self.result.timer: gr.Timer(active=active > 0),
        }

    def use_seed(self, browser: Any, clip: Any) -> Any:
        """The seed of the clip that is looked at, for the next one."""
        return self.use_settings(browser, clip, names={"seed"})

    def use_settings(self, browser: Any, clip: Any, *, names: set[str] | None = None) -> Any:
        """What the clip that is looked at was made with, or only the fields of `names`, in the form."""
        job = self.studio.job(str(clip or ""), owner=visitor(self.studio, browser)["owner"])
        if job is None or (problem := remaking.obstacle(self.studio.specs, job)):
            warn(problem if job is not None else "This clip is not there any more.")
            return gr.skip()
        request = dict(job.result.request if job.result else job.request)
        values = self.spec.default_values(request["model"]) | request
        return changed(self.form.show(values, names=names))

    def model_chosen(self, model: str) -> Any:
        """The model's own choices and defaults."""
        if model not in {known.name for known in self.spec.models}:
            warn(f"There is no model {given(model)} here: choose one of the list.")
            return gr.skip()
        return changed(self.form.show(self.spec.default_values(model), only_model=True))


def _digest(state: Any) -> str:
    """What `seen` keeps of a part of the column."""
    return str(hash(state))
