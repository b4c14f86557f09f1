"""Which models can run on this machine, and in one sentence why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engines.loading.store import ModelState, Store
from engines.types import UNVERIFIED, EngineSpec, ModelSpec
from engines.wording import both, gigabytes, gpu_memory
from studio.jobs.assign import has_memory, kind
from studio.jobs.worker_process import DeviceState

# Licences that ask for no more than to be named.
_FREE = ("Apache-2.0", "MIT", "BSD-3-Clause")
_TITLES = {"stabilityai-ai-community": "Stability AI Community License"}


@dataclass(frozen=True)
class Availability:
    """What a person should know of a model before choosing it.

    Attributes:
        reason: why it cannot run, "" if it can.
        warning: what to expect of it all the same, may be "".
    """

    files: ModelState
    reason: str = ""
    warning: str = ""

    @property
    def runnable(self) -> bool:
        """Whether a clip can be made with it."""
        return not self.reason


def availability(
    spec: EngineSpec, model: ModelSpec, *, files: Store, devices: Sequence[DeviceState], public: bool = False
) -> Availability:
    """Whether `model` can run with these files on these devices."""
    state = files.state(spec.name, model)
    gpus = [device for device in devices if kind(device.name) != "cpu"]
    largest = max((device.total_bytes for device in gpus), default=0)
    here = f"the largest here has {gpu_memory(largest)}" if gpus else "there is none here"
    if state.state in ("missing", "partial"):
        left = state.total_bytes - state.found_bytes
        if reason := _unpublished(model, state):
            return Availability(state, reason)
        if not any(weights.repo for weights in model.weights):
            return Availability(state, f"{model.title} is not complete: get a full copy of the project.")
        short = f", and {here}" if devices and not has_memory(largest, model.device_bytes) else ""
        wants = f" It {model.wants}{short}." if model.device_bytes else ""
        return Availability(state, f"{model.title} is not installed: {gigabytes(left)} to download.{wants}")
    if devices and not has_memory(largest, model.device_bytes):
        if public:
            return Availability(state, f"{model.title} {model.wants}; {here}.")
        return Availability(state, warning=f"It {model.wants}, and {here}: expect it to be very slow.")
    return Availability(state)


def _unpublished(model: ModelSpec, state: ModelState) -> str:
    """What to say of a model that wants files which nobody publishes and which are not here; "" of all others."""
    own = [weights for weights in model.weights if weights.unpublished]
    wanted = {f"{weights.repo}/{file}" for weights in own for file in weights.files}
    return f"{model.title} cannot run here: {own[0].unpublished}" if wanted & set(state.missing) else ""


def built_in(model: ModelSpec) -> bool:
    """Whether the model is one of the small ones that are shipped with this project."""
    return not any(weights.repo for weights in model.weights)


def is_free(model: ModelSpec) -> bool:
    """Whether all files of the model may be used for anything."""
    return all(weights.licence in _FREE for weights in model.weights)


def licences(model: ModelSpec) -> list[str]:
    """The licences of the model's files by name, the limited ones first."""
    names = dict.fromkeys(weights.licence for weights in model.weights)
    return [_TITLES.get(name, name) for name in sorted(names, key=lambda name: name in _FREE)]


def licence(model: ModelSpec) -> str:
    """What a person should know of the licences of the model's files, in one line; "" for this project's own."""
    if built_in(model):
        return ""
    if is_free(model):
        return f"Licence of its files: {both(licences(model))}."
    pages: dict[str, list[str]] = {}
    for weights in model.weights:
        if weights.licence not in _FREE:
            pages.setdefault(weights.licence, []).append(f"huggingface.co/{weights.repo}")
    lines = []
    if unread := pages.pop(UNVERIFIED, None):
        lines.append(f"The licence of its files could not be verified: read it at {_each(unread)} first.")
    if pages:
        names = both([_TITLES.get(name, name) for name in pages])
        where = _each([page for some in pages.values() for page in some])
        lines.append(f"Not free for every use: its files are under the {names}. Read at {where} what it allows.")
    return " ".join(lines)


def _each(names: list[str]) -> str:
    return both([*dict.fromkeys(names)])


def download_command(spec: EngineSpec, model: ModelSpec) -> str:
    """What a person types to install the model."""
    return f"python -m studio models --download {spec.name}/{model.name}"


def choices(spec: EngineSpec, found: dict[str, Availability]) -> list[tuple[str, str]]:
    """Models for a list: what can run first, the others with a word why not."""
    named: dict[Literal[True, False], list[tuple[str, str]]] = {True: [], False: []}
    for model in spec.models:
        state = found[model.name]
        missing = gigabytes(state.files.total_bytes - state.files.found_bytes)
        word = "" if state.runnable else f" — not installed, {missing}" if state.files.missing else " — cannot run here"
        named[state.runnable].append((f"{model.title}{word}", model.name))
    return named[True] + named[False]
