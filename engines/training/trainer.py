"""The trainer: one loop for every recipe, with averaged weights, exact resume and a JSON-lines log.

A run folder holds `checkpoint.safetensors` (weights, their average, the recipe), `state.pt` (optimizer, random
numbers, position), `log.jsonl`, and `export/` with the starter files of the average.
"""

import json
import logging
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from engines.media.output import whole_file
from engines.memory.devices import half_precision

from .clipping import AdaptiveClip
from .files import read_facts, save_network
from .optimizers import Optimizers
from .recipe import Recipe, Task
from .replay import Replay, numbers
from .share import ALONE, Share

log = logging.getLogger(__name__)


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Warm-up, constant, then a cosine to zero over the last `decay_share`; progress runs 0..1."""
    rate = recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warmup, 1))
    start = 1 - recipe.decay_share
    if progress > start and recipe.decay_share > 0:
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - start) / recipe.decay_share)))
    return rate


def _worker_start(_: int) -> None:
    # Ctrl-C, and torchrun's signal, reach every process of a group; only the loop may stop, after it has saved.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


@dataclass
class _Clock:
    """Wall and processor seconds of a run over all its sessions."""

    wall_s: float = 0.0
    core_s: float = 0.0

    def __post_init__(self) -> None:
        self._wall, self._core = time.monotonic() - self.wall_s, time.process_time() - self.core_s

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self._wall, time.process_time() - self._core


class Trainer:
    """Runs a task in a folder."""

    def __init__(
        self, recipe: Recipe, task: Task, folder: Path, *, device: str = "cpu", workers: int = 1, share: Share = ALONE
    ) -> None:
        self.recipe, self.task, self.folder, self.workers, self.share = recipe, task, folder, workers, share
        self.device = share.device or torch.device(device)
        if share.size > 1 and recipe.divided:
            share.rows(range(recipe.batch))  # refuses a batch that cannot be shared
            task.share = share
        narrow = half_precision(self.device) is not None
        self.bfloat16 = recipe.bfloat16 and narrow
        if recipe.bfloat16 and not self.bfloat16:
            log.info("This processor does not compute in bfloat16: training in float32.")
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # what autocast leaves in float32 is not worth exact products
        self.networks = nn.ModuleDict(task.networks()).to(self.device)
        self.parameters = [(n, p) for n, p in self.networks.named_parameters() if p.requires_grad]
        self.average = {name: p.detach().clone() for name, p in self.parameters}
        self.optimizers = Optimizers(
            self.parameters,
            name=recipe.optimizer if narrow else "adamw",  # torch's Muon multiplies in bfloat16 only
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.rate = 0.0
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.clip = AdaptiveClip()
        self.step = self.first = 0  # `first`: where the current leg began
        self.clock = _Clock()
        self.stopping = False
        self.figures: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> None:
        """Continue from the folder's checkpoint exactly where it stopped."""
        tensors = load_file(self.folder / "checkpoint.safetensors")
        state = torch.load(self.folder / "state.pt", weights_only=True)
        if state["step"] != read_facts(self.folder / "checkpoint.safetensors").get("step"):
            raise ValueError(
                "The run was stopped while it was saved: begin another from its export, --set start=FOLDER."
            )
        with torch.no_grad():
            for name, parameter in self.parameters:
                parameter.copy_(tensors[name])
                self.average[name] = tensors[f"average.{name}"].to(self.device)
        self.optimizers.load_state(state)
        self.rng.set_state(state["rng"])
        self.step = state["step"]
        if not (self.share.first or self.recipe.divided):  # what was saved is the first one's
            self.rng.manual_seed(self.recipe.seed + self.step)
        if "clip" in state:
            self.clip = AdaptiveClip(**state["clip"])
        if "task" in state:
            self.task.load_state(state["task"])
        self.figures = state.get("figures", {})
        self.clock = _Clock(state["wall_s"], state["core_s"])
        log.info("Resumed at step %d after %.1f minutes.", self.step, state["wall_s"] / 60)

    def adopt(self, tensors: dict[str, torch.Tensor], *, step: int) -> None:
        """Begin from averaged weights of a starter file, by this trainer's names, at the recipe's position `step`."""
        with torch.no_grad():
            for name, parameter in self.parameters:
                parameter.copy_(tensors[name])
                self.average[name] = parameter.detach().clone()
        if adopted := getattr(self.task, "adopted", None):
            adopted()
        self.step = step
        log.info("Training goes on from a file of step %d.", step)

    def begin_leg(self) -> None:
        """From here on warm-up, schedule and `minutes` count anew: one of several sessions of a long run."""
        self.first, self.clock = self.step, _Clock()

    def save(self) -> None:
        """Write the checkpoint; a crash leaves the previous one."""
        if not self.share.first:
            return
        wall_s, core_s = self.clock.read()
        tensors = dict(self.parameters) | {f"average.{name}": value for name, value in self.average.items()}
        state = {
            **self.optimizers.state(),
            "rng": self.rng.get_state(),
            "step": self.step,
            "clip": asdict(self.clip),
            "wall_s": wall_s,
            "core_s": core_s,
            "figures": self.figures,
        }
        if keep := getattr(self.task, "state", None):
            state["task"] = keep()
        with whole_file(self.folder / "state.pt") as part:  # both are written before either gets its name
            torch.save(state, part)
            save_network(self.folder / "checkpoint.safetensors", tensors, facts=self.record(), dtype=None)

    def record(self) -> dict[str, Any]:
        """How the weights came about: the recipe, steps, time and last figures."""
        wall_s, core_s = self.clock.read()
        return {
            "recipe": self.recipe.record(),
            "step": self.step,
            "wall_minutes": round(wall_s / 60, 2),
            "core_minutes": round(core_s / 60, 2),
            "figures": {name: round(value, 5) for name, value in self.figures.items()},
        }

    def export(self) -> None:
        """Starter files of the averaged weights."""
        if not self.share.first:
            return
        weights: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self.networks}
        for name, value in self.average.items():
            network, _, key = name.partition(".")
            weights[network][key] = value
        self.task.export(self.folder / "export", weights, self.record())

    def progress(self) -> float:
        """Share of the run that is done, by steps or by wall time."""
        done = self.step / self.recipe.steps
        if self.recipe.minutes:
            done = max(done, self.clock.read()[0] / 60 / self.recipe.minutes)
        return self.share.sum(min(done, 1.0) if self.share.first else 0.0)  # the first one's clock is everybody's

    def _batches(self):
        dataset = self.task.dataset()
        if self.workers:
            import cv2

            cv2.setNumThreads(
                1
            )  # here and not there: a process begun by a fork waits for ever for its parent's threads
        turns = math.lcm(*Counter(stage.until for stage in self.recipe.stages).values())
        loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=None,
            sampler=numbers(lambda: self.step, turns=turns, end=self.recipe.steps),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_worker_start,
        )
        if self.device.type == "cpu" or self.share.size > 1:  # all must see the same batch at the same step
            return iter(loader)
        return Replay(iter(loader), self.device)

    def _update(self, batch: dict[str, torch.Tensor]) -> None:
        self.rate = learning_rate(self.recipe, self.step - self.first, self.progress())
        batch = {name: value.to(self.device) for name, value in self.share.batch(batch).items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss, figures = self.task.loss(batch, self.rng, step=self.step)
        self.optimizers.zero_grad()
        loss.backward()
        self.share.add_gradients([p for _, p in self.parameters])
        figures = self.share.figures({"loss": float(loss.detach()), **figures})
        if observe := getattr(self.task, "after_backward", None):
            figures = figures | observe()
        norm = nn.utils.clip_grad_norm_(
            [p for _, p in self.parameters], math.inf if self.recipe.adaptive_clip else self.recipe.clip_norm
        )
        if not torch.isfinite(norm):
            log.warning("Step %d skipped: the gradient is not finite.", self.step)
            return
        if self.recipe.adaptive_clip:
            scale = self.clip.scale(float(norm))
            torch._foreach_mul_([p.grad for _, p in self.parameters if p.grad is not None], scale)
        self.optimizers.step(self.rate)
        keep = min(self.recipe.ema, (self.step + 1) / (self.step + 10))  # a young average forgets its start
        with torch.no_grad():
            values = [self.average[name] for name, _ in self.parameters]
            torch._foreach_lerp_(values, [p.detach() for _, p in self.parameters], 1 - keep)
        for name, value in figures.items():
            self.figures[name] = value if name not in self.figures else 0.98 * self.figures[name] + 0.02 * value

    def run(self, *, save_every_s: float = 150.0, log_every: int = 50, export_every_s: float = 600.0) -> None:
        """Train to the end of the recipe; an interrupt or a termination signal saves and stops."""
        handlers = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        saved = exported = time.monotonic()
        quiet = None if self.share.first else True
        bar = tqdm(total=self.recipe.steps, initial=self.step, desc=self.recipe.name, mininterval=5, disable=quiet)
        batches = self._batches()
        try:
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as lines:
                while self.step < self.recipe.steps and self.progress() < 1 and not self._told_to_stop():
                    if (batch := self._drawn(batches)) is None:
                        break
                    self._update(batch)
                    self.step += 1
                    bar.update()
                    if self.step % log_every == 0 and self.share.first:
                        wall_s, core_s = self.clock.read()
                        row = {"step": self.step, "wall_s": wall_s, "core_s": core_s, "rate": self.rate, **self.figures}
                        lines.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")
                        lines.flush()
                        bar.set_postfix(loss=f"{self.figures.get('loss', float('nan')):.4f}")
                    if time.monotonic() - saved > save_every_s:
                        self.save()
                        saved = time.monotonic()
                    if time.monotonic() - exported > export_every_s:
                        self.export()
                        exported = time.monotonic()
        finally:
            bar.close()
            if isinstance(batches, Replay):
                batches.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.save()
        self.export()

    def _drawn(self, batches: Iterator[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor] | None:
        """The next batch; None where the signal that stops this process has ended those that draw."""
        try:
            return next(batches)
        except RuntimeError:
            if self.stopping:
                return None
            raise

    def _told_to_stop(self) -> bool:
        """Whoever is told to stop stops all."""
        return self.share.sum(float(self.stopping)) > 0

    def _stop(self, *_: object) -> None:
        self.stopping = True
        log.info("Stopping after this step (process %d).", os.getpid())
