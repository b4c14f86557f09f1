"""What a clip will take here before it is made: memory, disk and time, by the run's own plans and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from engines.loading.store import Store
from engines.memory import budget, estimating, planning
from engines.memory.budget import Limits, Memory
from engines.memory.devices import ram
from engines.memory.estimating import Estimate, Held, Machine
from engines.memory.outlines import outlines
from engines.memory.planning import Abilities
from engines.parallel.choosing import AUTO
from engines.request import Request
from engines.types import EngineSpec, Size
from engines.wan.phases import ONE_BY_ONE
from engines.wording import both, gigabytes
from studio.jobs.paces import Paces
from studio.jobs.store import Job, JobStore
from studio.jobs.worker_process import DeviceState
from studio.measures import time_span

_LEARNED_FROM = 5
"""Clips of a model, the newest, whose measured memory corrects the estimate."""
_CLIP_BYTES = 0.12  # of an mp4, for each pixel of each frame
_NOTED_DISK_BYTES = 100e6  # the clip alone is not worth a word
_ROLES = {"vae": "the autoencoder", "mllm": "the multimodal model", "physics": "the physics branch"}


@dataclass(frozen=True)
class Outlook:
    """What a clip takes on one device.

    Attributes:
        disk_bytes: of the clip, and of what must be downloaded first.
        seconds: None where nothing like it was made here.
        smaller: the fields of the largest smaller clip that fits as it is, or at all; None if there is none.
        factor: what clips of this model took here, as a share of what was reckoned; 1 before one was made.
    """

    estimate: Estimate
    device: str
    disk_bytes: int
    seconds: float | None = None
    smaller: Mapping[str, Any] | None = None
    factor: float = 1.0

    @property
    def device_bytes(self) -> int:
        """The most that the process takes of the device, as was measured where it was."""
        return int(self.estimate.device_bytes * self.factor)

    @property
    def colour(self) -> str:
        """ "green" as usual, "amber" slower or not quite the same, "red" not at all; "" where nobody knows."""
        if self.estimate.verdict == "fits" and self.device_bytes > self.estimate.allowed_bytes:
            return "amber"
        return {"fits": "green", "slower": "amber", "refused": "red"}.get(self.estimate.verdict, "")

    @property
    def sentence(self) -> str:
        """All of it for people; "" where nobody knows."""
        made = self.estimate
        if made.verdict == "unknown":
            return ""
        allowed = gigabytes(made.allowed_bytes)
        if made.verdict == "refused":
            refused = next(one for step in made.steps for one in step.networks if not one.plan.possible)
            return f"Does not fit on the {self.device}: for {_name(refused)} {refused.plan.reason}."
        parts = [f"{gigabytes(self.device_bytes)} of the {allowed} that may be used on the {self.device}"]
        if made.ram_bytes:
            parts.append(f"{gigabytes(made.ram_bytes)} of RAM")
        if self.disk_bytes >= _NOTED_DISK_BYTES:
            parts.append(f"{gigabytes(self.disk_bytes)} of disk")
        parts.append(f"about {time_span(self.seconds)}" if self.seconds is not None else "time not known yet")
        words = f"Takes {', '.join(parts)}."
        unusual = [*dict.fromkeys(map(_told, made.unusual))]
        return " ".join((words, f"To fit, {both(unusual)}.")) if unusual else words

    @property
    def offer(self) -> str:
        """The smaller clip in words: "640x384, 49 frames"; "" without one."""
        if not self.smaller:
            return ""
        size = str(Size(self.smaller["width"], self.smaller["height"])) if "width" in self.smaller else ""
        frames = f"{self.smaller['frames']} frames" if "frames" in self.smaller else ""
        return ", ".join(filter(None, (size, frames)))

    def as_values(self) -> dict[str, Any]:
        """All of it for programs."""
        made = self.estimate
        return {
            "verdict": made.verdict,
            "text": self.sentence,
            "device": self.device,
            "device_bytes": self.device_bytes,
            "allowed_bytes": made.allowed_bytes,
            "ram_bytes": made.ram_bytes,
            "disk_bytes": self.disk_bytes,
            "seconds": self.seconds,
            "smaller": dict(self.smaller) if self.smaller else None,
            "plans": [
                {
                    "stage": step.name,
                    "device_bytes": step.device_bytes,
                    "networks": [
                        {"role": one.role, "mode": one.plan.mode, "form": one.plan.way.form, "how": one.plan.way.manner}
                        for one in step.networks
                    ],
                }
                for step in made.steps
            ],
        }


def request_of(spec: EngineSpec, values: Mapping[str, Any]) -> Request | None:
    """A request as far as memory goes: files need not be there, but model, size and length must be possible."""
    names = [model.name for model in spec.models]
    name = values.get("model", names[0])
    if name not in names:
        return None
    known = {key: value for key, value in values.items() if key in spec.request_type.model_fields}
    try:
        request = spec.request_type.model_validate(spec.default_values(name) | known)
    except ValidationError:
        return None
    size = {"width": request.width, "height": request.height, "frames": request.frames}
    return request if not spec.model(name).geometry.problems(**size) else None


def outlook(
    spec: EngineSpec,
    request: Request,
    device: DeviceState,
    *,
    files: Store,
    limits: Limits,
    workers: int = 1,
    store: JobStore | None = None,
    sharing: int = 1,
    wanted: str = planning.AUTO,
) -> Outlook:
    """What a clip of this request takes on a device, by what is known of its model and of earlier clips.

    Args:
        limits: what the user allows of each device.
        workers: how many processes share the RAM.
        store: of earlier clips; None where there is none.
        sharing: how many such devices share the weights.
        wanted: the precision that was chosen.
    """
    model = spec.model(request.model)
    known, machine = outlines(model, assets=files.assets), machine_of(device, limits, workers=workers, wanted=wanted)
    machine = replace(machine, devices=sharing)
    made = estimating.of_request(spec, request, known, machine)
    state = files.state(spec.name, model)
    clip = math.ceil(request.width * request.height * request.frames * _CLIP_BYTES)
    smaller = None
    if made.verdict in ("slower", "refused"):
        good = ("fits",) if made.verdict == "slower" else ("fits", "slower")
        smaller = estimating.smaller(spec, request, known, machine, fits=lambda other: other.verdict in good)
    factor, seconds = 1.0, None
    if store is not None:
        factor = _learned(spec, request.model, device, known, machine, store)
        job = Job(engine=spec.name, request=request.model_dump(mode="json"))
        seconds = Paces(store).plan(job, device=device.title, cold=not device.held_bytes).seconds
    title = device.title if sharing == 1 else f"{device.title} and on each of {sharing - 1} more"
    return Outlook(made, title, state.total_bytes - state.found_bytes + clip, seconds, smaller, factor)


def holders(spec: EngineSpec, request: Request, devices: Sequence[DeviceState], *, files: Store, limits: Limits) -> int:
    """The fewest of some devices that hold a clip's network between them, by the one with the least memory."""
    device = min(devices, key=lambda one: one.free_bytes)
    known, machine = outlines(spec.model(request.model), assets=files.assets), machine_of(device, limits)
    return estimating.holders(spec, request, known, machine, most=len(devices))


def reads_elsewhere(
    spec: EngineSpec, request: Request, here: DeviceState, there: DeviceState, *, files: Store, limits: Limits
) -> bool:
    """Whether `there`, an idle device, had better read the prompts of a clip that `here` makes."""
    known = outlines(spec.model(request.model), assets=files.assets)
    return estimating.reads_elsewhere(spec, request, known, machine_of(here, limits), machine_of(there, limits))


def sharing(
    spec: EngineSpec,
    request: Request,
    device: DeviceState,
    devices: Sequence[DeviceState],
    *,
    split: str,
    files: Store,
    limits: Limits,
) -> int:
    """How many of the devices share a clip's weights with `device`, itself included; `split` is what was chosen."""
    alike = [one for one in devices if one.name.partition(":")[0] == device.name.partition(":")[0]]
    if len(alike) < 2 or split not in ("weights", AUTO):
        return 1
    found = holders(spec, request, alike, files=files, limits=limits)
    return len(alike) if split == "weights" or found > 1 else 1


def machine_of(device: DeviceState, limits: Limits, *, workers: int = 1, wanted: str = planning.AUTO) -> Machine:
    """A device as the planner asks, with the memory that there is now; `wanted`: the precision that was chosen."""
    kind = device.name.partition(":")[0]
    told = kind == "cuda" or "@" in device.name  # another machine's RAM is known by what it says
    free, total = (device.free_bytes, device.total_bytes) if told else ram()
    # Who asked a GPU for its free memory had a context on it, as the worker will have.
    memory = Memory(free, total, device.held_bytes + (budget.CONTEXT_BYTES if kind == "cuda" else 0))
    allowed = budget.allowed_bytes(kind, memory, budget.limit_of(limits, device.name))
    return Machine(Abilities(kind, device.half, wanted), allowed, budget.ram_bytes(ram()[0], workers=workers))


def _learned(
    spec: EngineSpec, model: str, device: DeviceState, known: Mapping[str, Any], machine: Machine, store: JobStore
) -> float:
    """How much clips of this model took on such a device, at most, against what is reckoned of them."""
    whole, shares = replace(machine, allowed_bytes=max(machine.allowed_bytes, 2**50)), []
    for job in _made(spec, model, store):
        request = request_of(spec, job.request)
        if request is None or job.result is None or not job.result.peak_bytes or job.result.device != device.title:
            continue
        reckoned = estimating.of_request(spec, request, known, whole).device_bytes
        if reckoned:
            shares.append(job.result.peak_bytes / reckoned)
    return max(shares, default=1.0)


def _made(spec: EngineSpec, model: str, store: JobStore) -> Sequence[Job]:
    """The newest clips of a model; none where the list cannot be read."""
    with suppress(Exception):
        jobs = [job for job in store.finished(limit=50) if job.engine == spec.name]
        return [job for job in jobs if job.request.get("model") == model][:_LEARNED_FROM]
    return []


def _name(held: Held) -> str:
    return _ROLES.get(held.role, f"the {held.role.replace('_', ' ')}")


def _told(held: Held) -> str:
    """What is unusual about a network, as the rest of a sentence."""
    what, way = _name(held), held.plan.way
    if held.plan.mode == "turns":
        return f"{what} takes turns block by block, which is slower"
    if way.manner:
        return f"{what} makes its passes one by one" if way.manner == ONE_BY_ONE else f"{what} works {way.manner}"
    return f"{what} computes in {way.form}"
