"""Clips made by the machines of a Ray cluster: workers that are relays, one for each GPU of a node or for its CPU.

Ray is known to the processes that this one starts, and to nobody else: a cluster that goes down takes them, not the
studio.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engines.events import Failed
from engines.messages import Ready
from studio.cluster.place import MACHINE_LOST, Place
from studio.cluster.watch import Watch
from studio.jobs.assign import Candidate, Team, gather
from studio.jobs.local import Device, LocalExecutor, needs_of
from studio.jobs.store import Job, JobStore
from studio.jobs.worker_process import DeviceState, WorkerProcess
from studio.settings import Settings

_PAUSE_S = 5.0
_RELAY = (sys.executable, "-m", "studio.cluster.relay")


class ClusterExecutor(LocalExecutor):
    """One relay per place in the cluster. A machine that dies costs its job a second try on another one.

    Args:
        watch: which machines there are; closed with this.
        command: the words that start a worker on a node; tests give their own.
    """

    def __init__(self, settings: Settings, store: JobStore, *, watch: Watch, command: Sequence[str] = ()) -> None:
        super().__init__(settings, store, command=command)
        self._watch = watch
        self._places: dict[str, Place] = {}
        self._lacking: dict[str, frozenset[str]] = {}
        self._ended: dict[str, float] = {}
        self._lost: Counter[str] = Counter()
        self._changing = True

    def hindrance(self) -> str:
        return (
            super().hindrance() or self._watch.trouble or ("" if self._devices else "No machine of the cluster is up.")
        )

    def close(self) -> None:
        super().close()
        self._watch.close()

    def _look(self) -> None:
        """Take in machines that came, and forget those that went once their jobs are over."""
        found = {name: (title, place) for name, title, place in self._found()}
        with self._condition:
            for name in [name for name in self._devices if name not in found and not self._devices[name].busy]:
                process = self._devices.pop(name).process
                if process is not None:
                    process.kill()
            for name, (title, place) in found.items():
                self._places[name] = place
                if name not in self._devices and time.monotonic() - self._ended.get(name, -_PAUSE_S) >= _PAUSE_S:
                    self._devices[name] = Device(DeviceState(name, title))
            self._condition.notify_all()

    def _found(self) -> list[tuple[str, str, Place]]:
        """Every place: its name, what people call it, and where it is."""
        found = []
        for machine in self._watch.machines():
            place = Place(self._watch.address, machine["id"], command=tuple(self._command))
            known = re.sub(r"[^\w.-]", "-", machine["name"])
            gpus = machine["gpus"]
            for index in range(gpus):
                title = f"{machine['kind'] or 'GPU'} {index + 1} of {machine['name']}"
                found.append((f"cuda:{index}@{known}", title, replace(place, gpu=True, workers=gpus)))
            if not gpus and machine["cpus"]:
                found.append((f"cpu:0@{known}", f"CPU of {machine['name']}", place))
        return found

    def _words(self, device: str) -> Sequence[str]:
        return (*_RELAY, self._places[device].to_json())

    def _candidates(self) -> list[Candidate]:
        """A place that has not answered yet gets no job: a relay may wait for a machine that is just dying."""
        return [
            device.candidate if device.status is not None else replace(device.candidate, busy=True)
            for device in self._devices.values()
        ]

    def _first(self, jobs: Sequence[Job], candidates: Sequence[Candidate]) -> tuple[Job, Team] | None:
        """As on one machine, each job where its model is. Where it is nowhere, the worker says so."""
        for job in jobs:
            needs = needs_of(job)
            able = [one for one in candidates if needs.model not in self._lacking.get(one.name, ())]
            if (team := gather(needs, able or candidates)) is not None:
                return job, team
        return None

    def _take(self, process: WorkerProcess, message: Any) -> None:
        if isinstance(message, Ready) and (device := self._device(process)) is not None:
            self._lacking[device.state.name] = frozenset(message.lacking)
            self.wake()
        super()._take(process, message)
        if (device := self._device(process)) is not None and device.status is not None:
            self.wake()

    def _again(self, job: Job, process: WorkerProcess) -> bool:
        if process.code != MACHINE_LOST:
            return False
        self._lost[job.id] += 1
        return self._lost[job.id] < 2

    def _end(self, job: Job, event: Any) -> None:
        self._lost.pop(job.id, None)  # tried again, it keeps its name
        super()._end(job, event)

    def _ended_unexpectedly(self, title: str, process: WorkerProcess) -> Failed:
        if process.code != MACHINE_LOST:
            return super()._ended_unexpectedly(title, process)
        words = f"Two machines were lost while they made this clip, the last one with the {title}."
        return Failed(kind="DeviceError", message=words, hint="Look at them, then try again.")

    def _on_exit(self, process: WorkerProcess) -> None:
        with self._condition:
            device = self._device(process)
            super()._on_exit(process)
            if device is not None and device.process is process:
                self._ended[device.state.name] = time.monotonic()
                del self._devices[device.state.name]  # it is there again once it is seen again
