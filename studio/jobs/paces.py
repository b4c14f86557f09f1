"""How long the stages of clips took on this machine: one row for each engine, model, device and way of starting."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from engines import registry
from studio import models, remaking
from studio.jobs import pace
from studio.jobs.pace import FIRST_GUESS, Plan, Span, Work
from studio.jobs.store import Job, JobStore, StoreError


class Paces:
    """What was measured, kept beside the jobs so that it outlives the clips that taught it."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def note(self, job: Job, spans: Sequence[Span], *, device: str, cold: bool) -> None:
        """Keep what a clip took; raises StoreError where that cannot be written."""
        work = Work.of(job.request)
        values = json.dumps([[span.stage, round(span.seconds, 3), span.steps] for span in spans])
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO paces (engine, model, device, cold, spans, volume, steps, noted) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (job.engine, _model(job), device, cold, values, work.volume, work.steps, time.time()),
            )

    def plan(self, job: Job, *, device: str, cold: bool) -> Plan:
        """What a clip will take: by its like, by the nearest thing to that, or by a first guess."""
        try:
            with self._store.transaction() as db:
                rows = db.execute(
                    "SELECT spans, volume, steps FROM paces WHERE engine = ? AND model = ? "
                    "ORDER BY device != ?, cold != ?, noted DESC LIMIT 1",
                    (job.engine, _model(job), device, cold),
                ).fetchall()
        except StoreError:
            rows = []
        for values, volume, steps in rows:
            spans = [Span(str(stage), float(seconds), int(count)) for stage, seconds, count in json.loads(values)]
            return pace.plan(spans, Work(volume, steps), Work.of(job.request))
        return Plan(FIRST_GUESS, in_seconds=_built_in(job))


def _built_in(job: Job) -> bool:
    """Whether a small model that comes with the studio makes the clip: of these a first guess of its time is fair."""
    model = remaking.model_of(registry.SPECS, job)
    return model is not None and models.built_in(model)


def _model(job: Job) -> str:
    return str(job.request.get("model", ""))
