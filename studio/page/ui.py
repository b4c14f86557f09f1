"""The page: a header, a tab for each purpose of engines, the history, the models and the settings."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from studio.page import api, engine_tabs, history, kept_form, markup, model_list, plumbing, send
from studio.page.front_page import FrontPage
from studio.page.gate import MOST_UPLOAD_BYTES, Gate
from studio.page.guarded import Page
from studio.page.machine import Machine
from studio.page.models_tab import ModelsTab
from studio.page.queue_panel import QueuePanel
from studio.page.settings_tab import SettingsTab
from studio.page.theme import THEME
from studio.service import Studio

HERE = Path(__file__).parent
# What gradio keeps of a browser, or of a program that calls, is half a megabyte: the oldest is forgotten first.
MOST_SESSIONS = 32
STYLES = (
    "page.css", "scenes.css", "start_from.css", "mend.css", "compare.css", "history.css", "queue.css", "settings.css",
)  # fmt: skip
SCRIPTS = (
    "stores.js", "language.js", "page.js", "kept_form.js", "scenes.js", "crop.js", "force.js", "mend.js", "keys.js",
    "compare.js", "preferences.js", "queue.js", "history.js",
)  # fmt: skip
SHARED = "This studio is shared: clips are kept for an hour, so download those you want to keep."
LOGO = (HERE / "logo.svg").read_text(encoding="utf-8")


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio, not yet served."""
    with Page(
        studio.language, title="Kinora", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True
    ) as page:
        api.expose(studio)  # first, so that its names are the plain ones
        # The secret only tells this page's entry from others in the browser: gradio ships it to every visitor.
        browser = gr.BrowserState({}, storage_key="kinora", secret="kinora")
        here, line = Machine(studio), QueuePanel(studio)
        with gr.Row(elem_classes="top"):
            gr.HTML(markup.brand(LOGO, name="Kinora", motto="Pictures in, moving pictures out."), elem_classes="brand")
            here.chip()
            line.draw()
        if studio.settings.public:
            gr.HTML(markup.lines([markup.Line(SHARED)]), elem_classes="hint")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            titles = engine_tabs.by_title(studio.specs.values())
            drawn = [engine_tabs.render(studio, title, specs, browser=browser) for title, specs in titles.items()]
            places = engine_tabs.Places(tabs, drawn)
            with gr.Tab("History", id="history") as history_tab:
                from_history = history.render(studio, places, opened=history_tab, browser=browser)
            if not studio.settings.public:
                with gr.Tab("Models", id="models") as models_tab:
                    ModelsTab(studio).render(models_tab)
            with gr.Tab("Settings", id="settings") as settings_tab:
                SettingsTab(studio, here).render(settings_tab)
        rendered = places.drawn.values()
        for sender in (*(one.sender for one in rendered), from_history):
            send.wire(studio, sender, places, browser=browser)
        for one in rendered:
            send.wire_newest(studio, one.form, browser=browser)
        kept_form.wire(places.engine_tabs)
        line.wire(places, browser)
        model_list.Follower(studio, [one.controls.models for one in rendered]).wire(page)
    plumbing.follow_to_the_last(page)
    return page


def launch(studio: Studio, page: gr.Blocks) -> Any:
    """Serve the page from a thread of its own; `page.close` ends it.

    Raises:
        OSError, ValueError, ImportError: gradio could not serve it.
    """
    page.queue(default_concurrency_limit=8)
    with contextlib.redirect_stdout(io.StringIO()):  # gradio tells of MCP's address even where it is to be quiet
        return _launch(page, studio)


def _launch(page: gr.Blocks, studio: Studio) -> Any:
    settings = studio.settings
    gate = Middleware(Gate, settings=settings)
    return page.launch(
        server_name=f"[{settings.host}]" if ":" in settings.host else settings.host,
        server_port=settings.port,
        root_path=settings.root_path,
        auth=settings.auth,
        inbrowser=settings.open_browser,
        prevent_thread_lock=True,
        share=False,
        show_error=False,
        quiet=True,
        ssr_mode=False,
        run_history=False,
        mcp_server=True,  # the functions of api.py as tools, at /gradio_api/mcp
        footer_links=["api"],
        max_file_size=MOST_UPLOAD_BYTES,
        state_session_capacity=MOST_SESSIONS,
        app_kwargs={"middleware": [gate, Middleware(FrontPage, settings=settings, language=studio.language)]},
        # gradio would look for its own page and give up after 3 s, though it answers: a busy machine takes longer.
        _frontend=False,
        theme=THEME,
        css="\n".join((HERE / name).read_text(encoding="utf-8") for name in STYLES),
        head="".join(f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS),
    )
