"""The clip that is open in History: played, told about, starred, tagged, and handed on to the tabs that take it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr

from engines.editing import spec as edits
from engines.errors import MediaError, StudioError
from engines.media.stripping import strip
from engines.request import RANDOM_SEED
from studio import continuing, kept_files, library, queue, remaking
from studio.jobs.shelf import Shelf
from studio.jobs.store import Job
from studio.measures import seed
from studio.page import clip_quality, history_edit, markup, panel, send
from studio.page.clip_quality import Figures
from studio.page.engine_tabs import Places
from studio.page.history_edit import Editor
from studio.page.markup import Card, Line, Row
from studio.page.plumbing import Updates, warn
from studio.page.result import CLIP_CLASSES, card_of, classes, player
from studio.page.send import Sender
from studio.page.tab import Tab
from studio.page.uploads import served, served_if_there
from studio.page.visitor import connection, visitor
from studio.service import Studio

CHOOSE = Card("empty", "Choose a clip", "It plays here, with its settings and what can be done with it.")
STAR, STARRED = "☆ Star", "★ Starred"
MARKED = (
    "Every clip is marked as made by AI, in the file itself (XMP with the IPTC digital source type). "
    "Programs that edit or convert it take the mark away."
)


_APART = ("takers", "measure", "close", "editor")


@dataclass(frozen=True)
class Opened:
    """The components of the column.

    Attributes:
        group: ids of the jobs submitted together, of which one is open; `related` those in the gallery `family`, ""
            for a picture.
        notice: what a person should know of the clip before using it again.
        takers: engine -> the button that gives it the whole clip.
    """

    blank: gr.HTML
    detail: gr.Column
    group: gr.State
    related: gr.State
    status: gr.HTML
    video: gr.Video
    picture: gr.Image
    strip: gr.Gallery
    said: gr.HTML
    notice: gr.HTML
    again: gr.Button
    smaller: gr.Button
    use: gr.Button
    use_anew: gr.Button
    longer: gr.Button
    anew: gr.Button
    star: gr.Button
    download: gr.DownloadButton
    bare: gr.DownloadButton
    delete: gr.Button
    restore: gr.Button
    purge: gr.Button
    takers: Mapping[str, gr.Button]
    tags: gr.Textbox
    family: gr.Gallery
    figures: gr.HTML
    measure: gr.Button
    facts: gr.HTML
    close: gr.Button
    editor: Editor
    edit: gr.Column

    @property
    def components(self) -> list[Any]:
        """Everything that changes when another clip is opened."""
        plain = [getattr(self, one.name) for one in fields(self) if one.name not in _APART]
        return [*plain, *self.takers.values()]


def draw(studio: Studio, chosen: gr.State) -> tuple[Opened, Sender]:
    """Draw the column, nothing open, and the row that sends a frame elsewhere."""
    small: dict[str, Any] = {"size": "sm", "min_width": 60}
    blank = gr.HTML(markup.card(CHOOSE), visible=False, elem_classes="choose")
    group, related = gr.State([]), gr.State([])
    with gr.Column(visible=False, elem_classes=["opened"]) as detail:
        close = gr.Button("Close", elem_id="history-close", elem_classes="close", **small)
        status = gr.HTML(elem_id="history-status")
        video = player("history-video")
        picture = gr.Image(
            visible=False, interactive=False, show_label=False, buttons=[], elem_id="history-picture", type="filepath"
        )
        strip = _gallery("history-variations", "strip")
        said = gr.HTML(elem_id="history-said", elem_classes="said")
        notice = gr.HTML(elem_id="history-notice", elem_classes="hint")
        with gr.Row(elem_classes=["pills", "doing"]):
            again = gr.Button("Try again", variant="primary", visible=False, elem_id="history-again", **small)
            smaller = gr.Button("", visible=False, elem_id="history-smaller", **small)
            use = gr.Button("Use these settings", variant="primary", elem_id="history-use", **small)
            use_anew = gr.Button("With a new seed", elem_id="history-use-anew", **small)
            longer = gr.Button("Continue", visible=False, elem_id="history-continue", **small)
            anew = gr.Button("Redo from a scene", visible=False, elem_id="history-anew", **small)
            takers = {
                spec.name: gr.Button(
                    f"Go on in {spec.tab}", visible=False, elem_id=f"history-give-{spec.name}", **small
                )
                for spec in studio.specs.values()
                if spec.field_of("clip")
            }
            star = gr.Button(STAR, elem_id="history-star", **small)
            download = gr.DownloadButton("Download", size="sm", min_width=60, elem_id="history-download")
            bare = gr.DownloadButton("Without settings", size="sm", min_width=60, elem_id="history-bare")
            restore = gr.Button("Put back", visible=False, elem_id="history-restore", **small)
            delete = gr.Button("Delete", elem_id="history-delete", **small)
            purge = gr.Button("Delete for good", visible=False, variant="stop", elem_id="history-purge", **small)
        sender = send.render(studio.specs.values(), name="history", clip=chosen, video=video)
        with gr.Column() as edit:
            editor = history_edit.render(studio)
        with gr.Accordion("Details", open=True, elem_id="history-details"):
            tags = gr.Textbox(
                label="Tags", placeholder="with commas between them", max_lines=1, elem_id="history-tags",
                max_length=500, interactive=True,
            )  # fmt: skip
            family = _gallery("history-family", "strip")
            facts = gr.HTML(elem_id="history-facts")
            gr.HTML(markup.lines([Line(MARKED)]), elem_classes="hint")
        with gr.Accordion("Quality", open=False, elem_id="history-quality"):
            gr.HTML(markup.lines([Line(clip_quality.PURPOSE)]), elem_classes="hint")
            figures = gr.HTML(elem_id="history-figures")
            measure = gr.Button("Measure", size="sm", elem_id="history-measure")
    opened = Opened(
        blank, detail, group, related, status, video, picture, strip, said, notice, again, smaller, use, use_anew,
        longer, anew, star, download, bare, delete, restore, purge, takers, tags, family, figures, measure, facts,
        close, editor, edit,
    )  # fmt: skip
    return opened, sender


def _gallery(elem_id: str, look: str) -> gr.Gallery:
    return gr.Gallery(
        visible=False, show_label=False, fit_columns=False, height="auto", object_fit="cover", allow_preview=False,
        buttons=[], elem_id=elem_id, elem_classes=look,
    )  # fmt: skip


class OpenClip:
    """The events of the open clip; each returns what it changes."""

    def __init__(self, studio: Studio, places: Places, opened: Opened) -> None:
        self.studio, self.places, self.opened = studio, places, opened
        self.figures = Figures()

    def show(self, job: Job | None, group: Sequence[Job] = ()) -> Updates:
        """Play a clip and tell how it was made; None closes what is open."""
        column = self.opened
        if job is None:
            return {column.detail: gr.update(visible=False), column.video: None, column.group: []}
        spec: Any = self.studio.specs.get(job.engine)
        mark = Shelf(self.studio.store).mark(job.id)
        made, thrown = job.result is not None, mark.trashed is not None
        path = served_if_there(job.result.video) if job.result is not None else None
        plays = path is not None and Path(path).suffix == ".mp4"
        small = panel.own_pixels(spec, job)
        known = remaking.obstacle(self.studio.specs, job) == ""
        remade = known and spec is not None
        bare = without_settings(Path(path)) if path is not None and plays else None
        changes = queue.smaller(spec, job) if job.state == "failed" and known else {}
        less = queue.smaller_words(job, changes) if changes else ""
        updates: Updates = {
            column.blank: gr.update(visible=False),
            column.detail: gr.update(visible=True),
            column.group: [one.id for one in group],
            column.status: "" if made else markup.card(ended(job)),
            column.video: gr.update(
                value=path if plays else None, visible=plays,
                elem_classes=classes(*CLIP_CLASSES, own_pixels=small, fps=job.request.get("fps")),
            ),
            column.picture: gr.update(value=None if plays else path, visible=path is not None and not plays),
            column.strip: self._strip(job, group),
            column.said: markup.lines([Line(remaking.words(spec, job, most=2000) or seed(job.request))]),
            column.notice: markup.lines(self._notice(job, path, small=small)),
            column.again: gr.update(visible=not made and known and not thrown),
            column.smaller: gr.update(value=f"Try it with {less}", visible=bool(less) and not thrown),
            column.use: gr.update(visible=remade and not thrown, variant="primary" if made else "secondary"),
            column.use_anew: gr.update(visible=remade and not thrown),
            column.longer: gr.update(
                visible=made and not thrown and spec is not None and continuing.possible(spec, job)
            ),
            column.anew: gr.update(visible=not thrown and spec is not None and bool(continuing.cuts(spec, job))),
            column.star: gr.update(value=STARRED if mark.starred else STAR, visible=not thrown),
            column.download: gr.update(value=path, visible=path is not None),
            column.bare: gr.update(value=bare, visible=bare is not None),
            column.delete: gr.update(visible=not thrown),
            column.restore: gr.update(visible=thrown),
            column.purge: gr.update(visible=thrown),
            column.tags: gr.update(value=", ".join(mark.tags), visible=not thrown),
            column.edit: gr.update(visible=plays and not thrown),
            column.figures: markup.table(self.figures.known(job)) if made else "",
            column.facts: markup.table(facts(spec or edits.of_job(job.engine), job)),
        }  # fmt: skip
        updates |= {button: gr.update(visible=plays and not thrown) for button in column.takers.values()}
        return updates | self._family(job)

    def _notice(self, job: Job, path: str | None, *, small: bool) -> list[Line]:
        gone = panel.NO_FILE if path is None and job.result is not None else ""
        sentences = (gone, remaking.obstacle(self.studio.specs, job), remaking.loss(job))
        lines = [Line(sentence, "problem") for sentence in sentences]
        if small and path is not None:
            lines.append(Line(panel.own_pixels_line(job)))
        return lines

    def _strip(self, job: Job, group: Sequence[Job]) -> Any:
        """The clips submitted together, each with its seed, the open one marked."""
        cards = [(picture_of(one), seed(one.request)) for one in group]
        open_ = next((index for index, one in enumerate(group) if one.id == job.id), None)
        return gr.update(value=cards, visible=len(group) > 1, selected_index=open_)

    def _family(self, job: Job) -> Updates:
        """What the clip was made from, and what was made from it."""
        parents, children = library.family(self.studio, job)
        cards, ids = [], []
        for path in kept_files.pictures(job.request):
            if (shown := served_if_there(path)) is not None:
                cards.append((shown, "picture"))
                ids.append("")
        for word, jobs in (("made from", parents), ("became", children)):
            cards += [(picture_of(other), word) for other in jobs]
            ids += [other.id for other in jobs]
        column = self.opened
        return {
            column.family: gr.update(value=cards, visible=bool(cards), selected_index=None), column.related: ids,
        }  # fmt: skip

    def measure(self, browser: Any, job_id: str) -> str:
        """The quality figures of the open clip."""
        job = self.job(browser, job_id)
        if job is None or job.result is None:
            return ""
        try:
            return markup.table(self.figures.measure(self.studio.specs.get(job.engine), job))
        except MediaError as error:
            return markup.lines([Line(error.message, "problem")])

    def use(self, *, new_seed: bool) -> Callable[[Any, str], Any]:
        """An event that puts the open clip's settings back into its tab."""

        def put_back(browser: Any, job_id: str) -> Any:
            found = self._usable(browser, job_id)
            if found is None:
                return gr.skip()
            job, tab = found
            if lost := remaking.loss(job):
                warn(lost)
            request = dict(job.result.request if job.result else job.request)
            values = tab.form.spec.default_values(request["model"]) | request
            return self.places.go(job.engine) | tab.form.show(values | ({"seed": RANDOM_SEED} if new_seed else {}))

        return put_back

    def go_on(self, browser: Any, job_id: str, *, anew: bool = False) -> Any:
        """Put what continues the open clip into its tab, or what makes its last scene anew."""
        found = self._usable(browser, job_id)
        if found is None:
            return gr.skip()
        job, tab = found
        updates = (tab.events.make_anew if anew else tab.events.go_on)(browser, job_id)
        return updates if updates == gr.skip() else self.places.go(job.engine) | updates

    def give(self, engine: str) -> Callable[[Any, str], Any]:
        """An event that puts the whole clip into the field of an engine that takes one; the rest of its form stays."""

        def given(browser: Any, job_id: str) -> Any:
            job = self.job(browser, job_id)
            tab = self.places.drawn[engine]
            name = str(tab.form.spec.field_of("clip"))
            if job is None or job.result is None or not Path(job.result.video).is_file():
                warn(panel.NO_FILE)
                return gr.skip()
            values = {"model": tab.form.spec.models[0].name, name: {"path": job.result.video}}
            return self.places.go(engine) | tab.form.show(values, names={name})

        return given

    def again(self, *, smaller: bool) -> Callable[[gr.Request | None, Any, str], str]:
        """An event that queues the open clip, which failed or was cancelled, once more; returns how that went."""

        def tried(request: gr.Request | None, browser: Any, job_id: str) -> str:
            job = self.job(browser, job_id)
            if job is None:
                return ""
            changes = queue.smaller(self.studio.specs.get(job.engine), job) if smaller else None
            here = connection(self.studio.settings, request)
            try:
                queue.retry(self.studio, job.id, changes=changes, owner=job.owner, connection=here)
            except StudioError as error:
                return markup.card(Card("failed", "It could not be tried again", str(error)))
            return markup.card(Card("waiting", "It waits to be made again", "It is in the queue now."))

        return tried

    def star(self, browser: Any, job_id: str) -> Any:
        """Put a star on the open clip, or take it off."""
        job = self.job(browser, job_id)
        if job is None:
            return gr.skip()
        on = not Shelf(self.studio.store).mark(job.id).starred
        library.star(self.studio, job.id, on, owner=job.owner)
        return {self.opened.star: STARRED if on else STAR}

    def tag(self, browser: Any, job_id: str, text: Any) -> None:
        """Give the clip the tags that were written; the field stays as it is, for another clip may be open by now."""
        if (job := self.job(browser, job_id)) is not None:
            library.tag(self.studio, job.id, str(text or "").split(","), owner=job.owner)

    def _usable(self, browser: Any, job_id: str) -> tuple[Job, Tab] | None:
        """The clip and the tab that its settings belong to; None, and a sentence why, where there is no such tab."""
        job = self.job(browser, job_id)
        problem = remaking.obstacle(self.studio.specs, job) if job else "This clip is not there any more."
        if problem or job is None:
            warn(problem)
            return None
        return job, self.places.drawn[job.engine]

    def job(self, browser: Any, job_id: Any) -> Job | None:
        """The job with this id, if this visitor may see it."""
        return self.studio.job(str(job_id or ""), owner=visitor(self.studio, browser)["owner"])


def facts(spec: Any, job: Job) -> list[Row]:
    """The settings of a job, and when and by what its clip was made."""
    rows = [row for row in panel.facts(spec, job) if row.label != "Prompt"]
    if spec is not None:
        rows.insert(0, Row("Edit" if edits.of_job(job.engine) else "Engine", spec.title))
    when = time.strftime("%d %b %Y, %H:%M", time.localtime(job.finished or job.created))
    return [*rows, Row("Made on" if job.result else "Ended on", when)]


def ended(job: Job) -> Card:
    """How a job without a clip ended."""
    if job.failure is not None:
        return Card("failed", "This clip could not be made", job.failure.text)
    return Card("cancelled", "Cancelled", "Nothing was kept but its settings.")


def picture_of(job: Job) -> str:
    """The picture that stands for a job: its clip's, else one that it was to be made from, else a blank one."""
    if (card := card_of(job)) is not None:
        return card
    found = next(filter(None, map(served_if_there, kept_files.pictures(job.request))), None)
    return found or served(BLANK)


def without_settings(path: Path) -> str | None:
    """A copy beside a clip for the browser that tells nothing of its making; None where there can be none."""
    target = path.with_name(f"{path.stem}-without-settings.mp4")
    try:
        if not target.is_file():
            strip(path, target)
    except MediaError:
        return None
    return str(target)


BLANK = Path(__file__).parent / "blank.png"
