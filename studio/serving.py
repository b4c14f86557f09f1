"""A studio from settings to a served page, and its end."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from engines.errors import StudioError
from engines.wording import printable
from studio import browser_files, library, speech
from studio.jobs.worker_process import require_devices
from studio.paths import reason
from studio.service import Studio, open_studio
from studio.settings import (
    BadSetting,
    Settings,
    check_certificate,
    check_cluster,
    check_computing,
    check_models_folder,
)

_LOOK_S = 0.5
_SWEEP_S = 300.0


def run(settings: Settings) -> None:
    """Serve until interrupted, then end the workers; what they were making is queued again.

    Raises:
        StudioError: the studio cannot be started; nothing was changed, and no job was touched.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    _reach_ourselves()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    check_models_folder(settings)
    check_computing(settings)
    check_certificate(settings)
    check_address(settings.host, settings.port)
    for folder in (settings.pictures, settings.for_browsers):
        if os.path.lexists(folder) and not folder.is_dir():
            name = printable(folder.name)
            raise BadSetting(f'A file "{name}" stands where the studio keeps a folder.', hint="Move it elsewhere.")
    if settings.cluster:
        check_cluster(settings)
    elif settings.devices and not settings.in_event:
        require_devices(settings.devices)
    speech.say("Kinora is starting.")
    executor, told = _executor(settings)  # before the page, which takes longest: nothing is waited for in vain
    from studio.page import ui

    try:
        studio = open_studio(settings, executor, **told)
    except BadSetting:
        raise
    except StudioError as error:
        raise BadSetting(error.message, hint=error.hint) from error
    except OSError as error:
        raise _no_outputs(settings, error) from error
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        studio.executor.start()
        with browser_files.gradios_folder(settings.for_browsers):
            page = ui.build(studio)
            try:
                ui.launch(studio, page)
            except (OSError, ValueError, ImportError) as error:
                logging.getLogger(__name__).warning("gradio says: %s", error)
                raise BadSetting(
                    "The page could not be served.", hint="This machine may be too busy: try again."
                ) from error
            speech.say(f"Kinora is at {address(settings)} (Ctrl+C ends it).")
            if settings.password_made:
                speech.say(f"Log in as {settings.user} with {settings.password}, made for this run.")
            swept = -_SWEEP_S
            while not stopped.wait(_LOOK_S):  # without an end, Windows would not let a signal through
                if time.monotonic() - swept > _SWEEP_S:
                    swept = time.monotonic()
                    sweep(studio)
            page.close(verbose=False)
    finally:
        studio.executor.close()
        studio.store.close()


def _executor(settings: Settings) -> tuple[type, dict[str, Any]]:
    """Who makes the clips, and what it is told beside the settings; raises BadSetting where it cannot be had."""
    if settings.cluster:
        from studio.cluster.executor import ClusterExecutor
        from studio.cluster.watch import Watch

        try:
            return ClusterExecutor, {"watch": Watch(settings.cluster)}
        except StudioError as error:
            raise BadSetting(error.message, hint=error.hint) from error
    from studio.jobs.in_event import InEventExecutor
    from studio.jobs.local import LocalExecutor

    return (InEventExecutor if settings.in_event else LocalExecutor), {}


def sweep(studio: Studio) -> None:
    """Remove what was kept long enough: in the trash, and on a shared studio anywhere."""
    chores: list[Callable[[], int]] = [lambda: library.empty_trash(studio, owner=None, days=library.TRASH_DAYS)]
    if studio.settings.public:
        chores.append(lambda: studio.forget_old(now=time.time()))
    for chore in chores:
        try:
            chore()
        except StudioError as error:  # a busy list, a clip that somebody needs: the next sweep finds it again
            logging.getLogger(__name__).warning("what is old could not be removed: %s", error)


def address(settings: Settings) -> str:
    """Where a browser on this machine finds the page; behind a proxy that serves it elsewhere, where that is."""
    if settings.root_path.startswith("http"):
        return settings.root_path
    host = settings.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def check_address(host: str, port: int) -> None:
    """Raise BadSetting where nothing could listen on this address and port."""
    shown = printable(host)
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError):
        raise BadSetting(
            f'There is no address "{shown}":', hint="serve on 127.0.0.1, or on one of this machine."
        ) from None
    problems = [
        problem for family, kind, number, _, address in found if (problem := _bound(family, kind, number, address))
    ]
    for problem in problems:
        if problem.errno == errno.EADDRINUSE:
            raise BadSetting(f"Port {port} is in use:", hint="choose another with --port, or stop what listens there.")
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise BadSetting(f"Port {port} may not be used by you:", hint="choose one from 1024 on with --port.")
    if len(problems) == len(found):
        raise BadSetting(f'"{shown}" is no address of this machine:', hint="serve on 127.0.0.1, or on one that it has.")


def _bound(family: int, kind: int, number: int, address: tuple[object, ...]) -> OSError | None:
    """What hinders listening on an address, None for nothing."""
    try:
        with socket.socket(family, kind, number) as probe:
            if os.name == "posix":  # as servers do: a port just left is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _reach_ourselves() -> None:
    """gradio asks its own page whether it is up: not through a proxy that is meant for other machines."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [entry for entry in os.environ.get(name, "").split(",") if entry.strip()]
        os.environ[name] = ",".join([*known, "127.0.0.1", "localhost", "::1"])


def _no_outputs(settings: Settings, error: OSError) -> StudioError:
    """The sentence for an outputs folder that no studio can be opened in."""
    name = printable(settings.outputs.name)
    if settings.outputs.exists() and not settings.outputs.is_dir():
        return BadSetting(f'The outputs folder "{name}" is a file:', hint="choose another with --outputs.")
    return BadSetting(
        f'The outputs folder "{name}" cannot be used: {reason(error)}.', hint="Choose another with --outputs."
    )
