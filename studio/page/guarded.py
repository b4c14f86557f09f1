"""gradio's Blocks with every call answered: values that its layers cannot cope with get a sentence."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like

from engines.errors import StudioError
from studio.jobs.executor import OUR_FAULT
from studio.language import ENGLISH, Language
from studio.page import spoken
from studio.page.uploads import received

log = logging.getLogger(__name__)

_HERE = str(Path(__file__).parents[2])
_MOST_DEPTH = 50


class Page(gr.Blocks):
    """A page whose events answer odd values in one sentence and never carry a file that is no upload.

    What it says to browsers is in the `language` of each; programs that call are told in English.
    """

    def __init__(self, language: Language | None = None, **options: Any) -> None:
        self._language = language or Language()
        super().__init__(**options)
        self._told: set[str] = set()

    @property
    def config(self) -> Any:
        """The page as gradio describes it, in the language that is asked for."""
        return spoken.config(self._config, setting=self._language.setting)

    @config.setter
    def config(self, whole: Any) -> None:
        self._config = whole

    async def process_api(
        self, block_fn: Any, inputs: list[Any], state: Any = None, request: Any = None, *rest: Any, **options: Any
    ) -> dict[str, Any]:
        """One call of an event or API function, whichever way it came."""
        block_fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        ours = block_fn.api_visibility == "private"
        accepted = str(request.headers.get("accept-language", "")) if ours and request is not None else ""
        spoken.asked(self._language.of(accepted) if ours else ENGLISH)
        try:
            if any(received(file) is None for file in _files(inputs) if not is_http_url_like(file["path"])):
                raise gr.Error(
                    "Files must be uploads, each made by handle_file().", title="Not taken", print_exception=False
                )
            answer = await super().process_api(block_fn, inputs, state, request, *rest, **options)
            return answer | {"data": spoken.outputs(block_fn, answer["data"])}
        except gr.Error:
            raise
        except StudioError as error:
            # The page shows what its own events say as HTML, a program that calls shows text.
            text = escape(spoken.said(str(error))) if ours else str(error)
            raise gr.Error(text, title=spoken.said("Error"), print_exception=False) from None
        except Exception as error:
            raise gr.Error(
                spoken.said(self._sentence(error)), title=spoken.said("Not done"), print_exception=False
            ) from None

    def _sentence(self, error: Exception) -> str:
        """Whose fault an unexpected error is: ours is logged in full, once for each place it comes from."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_HERE)]
        inside = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
        if not inside:
            log.info("a call with values of another kind: %s: %.200s", type(error).__name__, error)
            return "These values are not what this call takes: see the API page for its parameters."
        place = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}"
        known = place in self._told
        self._told.add(place)
        log.error(
            "an event failed at %s: %s: %.200s", place, type(error).__name__, error, exc_info=None if known else error
        )
        return OUR_FAULT


def _files(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Everything in the values of a call that gradio would take for a file of its own."""
    if depth > _MOST_DEPTH:
        raise gr.Error("These values are nested too deep.", print_exception=False)
    if isinstance(value, Mapping):
        if is_file_obj_with_meta(value):
            yield value
        for part in value.values():
            yield from _files(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _files(part, depth + 1)
