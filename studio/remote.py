"""A clip made by a studio that runs elsewhere: the files sent there, the job followed, the clip fetched from there."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from engines.errors import DeviceError, InvalidRequest, Problem, StudioError
from engines.events import Clip
from engines.inputs import Media, with_files
from engines.media import metadata
from engines.types import EngineSpec
from engines.wording import printable
from studio.jobs.store import ENDED
from studio.one_clip import SIGNALS, Target

if TYPE_CHECKING:
    from gradio_client import Client

_LOOK_S = 0.5
_PATIENCE_S = 60.0  # a slow connection, or one that is away for a moment


class Refused(StudioError):
    """The other studio said why it makes no clip."""


class Studio:
    """Another studio, by its API.

    Args:
        url: where its page is, such as http://studio.example:7860.
        login: user name and password, where it wants them.

    Raises:
        InvalidRequest: this is no address of a page.
        DeviceError: no studio answers there, or it does not let us in.
    """

    def __init__(self, url: str, *, login: tuple[str, str] | None) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # "http://[::1"
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(
                [Problem("server", "Write --server as an address such as http://studio.example:7860.")]
            )
        self.name = printable(parts.netloc.rpartition("@")[2])
        self._folder = tempfile.TemporaryDirectory(prefix="kinora-")
        # A studio without a password takes no login, so the first try is without one.
        found = self._met(url, None) or (self._met(url, login) if login else None)
        if found is None:
            raise DeviceError(
                f"The studio at {self.name} does not let you in:",
                hint="KINORA_PASSWORD holds another password." if login else "set KINORA_PASSWORD to its password.",
            )
        self._client = found

    def _met(self, url: str, login: tuple[str, str] | None) -> Client | None:
        """A client of that studio, None where it wants another login."""
        from gradio_client import Client
        from gradio_client.exceptions import AuthenticationError

        try:
            return Client(
                url,
                auth=login,
                verbose=False,
                download_files=self._folder.name,
                httpx_kwargs={"timeout": _PATIENCE_S},
            )
        except Exception as error:  # whatever stands behind an address
            if isinstance(error, AuthenticationError) or str(error).startswith("Could not login"):
                return None
            hint = "Check the address, and that the studio runs."
            if "CERTIFICATE_VERIFY" in str(error):
                hint = "This machine does not trust its certificate: SSL_CERT_FILE names the file of one that it does."
            raise DeviceError(f"No studio answers at {self.name}.", hint=hint) from None

    def make(self, spec: EngineSpec, values: Mapping[str, Any], *, target: Target, quiet: bool) -> Clip:
        """The clip of these request values, under its name.

        Raises:
            InvalidRequest: the other studio refused the request, in its own words.
            Refused, DeviceError: it could not make the clip, or is gone.
            KeyboardInterrupt: the user pressed Ctrl-C; the job there is cancelled.
        """
        try:
            (job,) = self._ask("/generate", spec.name, values.get("prompt", ""), [], self._sent(spec, values), 1)
        except Refused as refused:
            raise InvalidRequest([Problem("", str(refused))]) from None
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler)
        try:
            ended = self._follow(job, quiet=quiet)
        except KeyboardInterrupt:
            with suppress(StudioError):
                self._ask("/cancel", job, False)
            raise
        if ended["state"] != "done" or "video" not in ended:
            raise Refused(ended.get("error") or f"The clip was cancelled at {self.name}.")
        return target.take(_as_clip(Path(ended["video"]), target.folder, ended, spec))

    def close(self) -> None:
        """Forget what was fetched."""
        self._client.close()
        self._folder.cleanup()

    def _follow(self, job: str, *, quiet: bool) -> dict[str, Any]:
        heard = time.monotonic()
        with tqdm(disable=True if quiet else None, file=sys.stderr, leave=False, unit="step") as bar:
            while True:
                try:
                    state: dict[str, Any] = self._ask("/job", job)
                except DeviceError:
                    if time.monotonic() - heard > _PATIENCE_S:
                        raise
                    time.sleep(_LOOK_S)
                    continue
                heard = time.monotonic()
                if state["state"] in ("done", *ENDED):
                    return state
                bar.set_description(state.get("stage") or "Waiting")
                bar.total, bar.n = state.get("steps") or None, state.get("step") or 0
                bar.refresh()
                time.sleep(_LOOK_S)

    def _ask(self, function: str, *given: Any) -> Any:
        from gradio_client.exceptions import AppError

        try:
            return self._client.predict(*given, api_name=function)
        except AppError as error:
            raise Refused(str(error)) from None
        except Exception as error:  # the connection broke, or the studio is of another make
            raise DeviceError(
                f"The studio at {self.name} did not answer as a studio does.", hint="Look at it, and try again."
            ) from error

    def _sent(self, spec: EngineSpec, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with their files marked for sending; the prompt goes by itself."""
        from gradio_client import handle_file

        def send(_name: str, _declared: Media, entry: Any) -> Any:
            if not isinstance(entry, Mapping) or not Path(str(entry.get("path"))).is_file():
                name = printable(Path(str(entry.get("path") if isinstance(entry, Mapping) else entry)).name)
                raise InvalidRequest([Problem("", f'There is no file "{name}": check the name.')])
            return dict(entry) | {"path": handle_file(str(entry["path"]))}

        others = {name: value for name, value in values.items() if name != "prompt"}
        return with_files(spec.request_type, others, send, leave=("earlier job", "adapter"))


def _as_clip(video: Path, folder: Path, ended: Mapping[str, Any], spec: EngineSpec) -> Clip:
    """A fetched clip as one made here: moved to `folder`, with the settings it carries in a file beside it."""
    place = folder / video.name
    shutil.move(video, place)
    known = metadata.read(place)
    sidecar = place.with_suffix(".json")
    said = known or metadata.Metadata(engine=spec.name, model="", parameters={}, seed=ended.get("seed") or -1)
    sidecar.write_text(said.model_dump_json(indent=2), encoding="utf-8")
    request = dict(known.parameters) if known is not None else {}
    return Clip(
        video=str(place),
        sidecar=str(sidecar),
        poster="",
        request=request | {"seed": ended.get("seed")},
        seconds=dict(ended.get("seconds") or {}),
        peak_bytes=known.peak_bytes if known is not None else 0,
        notes=tuple(known.notes) if known is not None else (),
    )
