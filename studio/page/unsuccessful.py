"""What is still kept of clips that failed or were cancelled, and the button that deletes it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio.page import markup
from studio.page.markup import Line
from studio.page.plumbing import HIDDEN, Updates
from studio.page.visitor import visitor
from studio.service import Studio


class Unsuccessful:
    """A line at the foot of History; nothing where nothing is left."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.said = gr.HTML(visible=False, elem_id="history-unsuccessful", elem_classes="hint")
        with gr.Row(elem_classes="pills"):
            self.button = gr.Button(
                "Delete what is left of them", size="sm", min_width=60, visible=False, elem_id="history-forget"
            )

    def wire(self, opened: gr.Tab, browser: gr.BrowserState) -> None:
        """Look whenever History is opened."""
        opened.select(self.look, browser, [self.said, self.button], **HIDDEN)
        self.button.click(self.forget, browser, [self.said, self.button], **HIDDEN)

    def look(self, browser: Any) -> Updates:
        """How many there are, and what is kept of them."""
        left = len(self.studio.store.unsuccessful(owner=visitor(self.studio, browser)["owner"]))
        some = "1 clip failed or was" if left == 1 else f"{left} clips failed or were"
        sentence = f"{some} cancelled: prompts, settings and pictures are still kept."
        return {
            self.said: gr.update(value=markup.lines([Line(sentence)]) if left else "", visible=bool(left)),
            self.button: gr.update(visible=bool(left)),
        }

    def forget(self, browser: Any) -> Updates:
        """Delete them with their prompts and pictures."""
        self.studio.forget_unsuccessful(owner=visitor(self.studio, browser)["owner"])
        return self.look(browser)
