"""What the physics branch buys: arms that begin alike, trained alike, measured on held-out scenes, with intervals.

All begin with one base: the text-to-video starter, trained on on simulated clips without any branch. A: the base alone,
trained further. B: with the branch, over the features of the small V-JEPA 2. C: with the same branch, over random
projections of the frames. D: the base with its feed-forwards widened to B's number of parameters. At first every arm
makes the base's own clips, for what is new says nothing yet. All have the same data in the same order, steps and seeds.
"B, base frozen" is the paper's own setting: the branch alone learns, and is compared with the base.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.media.output import whole_file
from engines.training import networks
from engines.training.files import read_facts
from engines.training.physics_branch import build_branch
from engines.training.recipes import phantom_physics_starter, physics_encoder
from engines.training.recipes.phantom_physics_starter import FILE, RECIPE, StarterRecipe
from engines.training.trainer import Trainer

from .physics import Physics, average, measure
from .physics_iq import Likeness
from .physics_predictor import Predictor
from .physics_starter import IN_WORDS, held_out

log = logging.getLogger(__name__)

BASE = "base"
ARMS: dict[str, dict[str, Any]] = {
    BASE: {"arm": "none"},
    "A": {"arm": "none"},
    "B": {"arm": "encoder"},
    "C": {"arm": "projection"},
    "D": {"arm": "none"},  # widened
    "B, base frozen": {"arm": "encoder", "frozen": True},
}
COMPARED = (("B", "A"), ("B", "C"), ("B", "D"), ("A", BASE), ("B, base frozen", BASE))
MEASURES = {"residual": "law residual", "trajectory": "trajectory error, px", "permanence": "permanence"}
OWN = ("arm", "base", "files", "frozen", "minutes", "seed")  # settings of its own
STEPS = 540  # of the base; arms learn for half of them
SEEDS = (0, 1)  # of arms; there is one base
RESAMPLES = 2000
WORKERS = 1  # processes that draw clips while a network trains


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm with one seed, in a folder of its own."""

    arm: str
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """Where its training is."""
        return self.out / f"{self.arm.replace(', ', '-').replace(' ', '-')}-{self.seed}"

    @property
    def file(self) -> Path:
        """What its training exports."""
        return self.folder / "export" / FILE

    def recipe(self, recipe: StarterRecipe, steps: int) -> StarterRecipe:
        """How it is trained, `recipe` being the starter's."""
        told = ARMS[self.arm] | {"seed": self.seed, "steps": steps, "minutes": 0.0}
        if self.arm != BASE:
            # Data that the base has not seen.
            told |= {"base": str(Run(BASE, 0, self.out).file), "seed": self.seed + 1, "steps": max(1, steps // 2)}
        if self.arm == "D":
            told["visual"] = widened(recipe)
        return dataclasses.replace(recipe, **told)


def widened(recipe: StarterRecipe) -> dict[str, Any]:
    """The visual configuration whose feed-forwards have as many parameters more as B's branch has."""
    with torch.device("meta"):
        config = networks.build_transformer(networks.TRANSFORMER | recipe.visual).config
        branch = build_branch(recipe, config, channels=physics_encoder.CONFIG["hidden_size"])
    extra = sum(p.numel() for p in branch.parameters() if p.requires_grad)
    each = 2 * config.num_attention_heads * config.attention_head_dim + 1  # of one more channel, in one block
    return recipe.visual | {"ffn_dim": config.ffn_dim + round(extra / each / config.num_layers)}


def train(run: Run, recipe: StarterRecipe) -> None:
    """Trains a run to its end, from where it stands."""
    if run.file.is_file() and read_facts(run.file)["recipe"]["step"] >= recipe.steps:
        return
    # Hooks are not among the compiler's guards: blocks compiled without a branch would be taken for those with one.
    torch.compiler.reset()
    torch.manual_seed(recipe.seed)
    trainer = Trainer(recipe, phantom_physics_starter.build(recipe), run.folder, workers=WORKERS)
    if (run.folder / "state.pt").is_file():
        trainer.resume()
    trainer.run()
    if trainer.stopping:
        raise KeyboardInterrupt


def measured(run: Run, recipe: StarterRecipe, count: int) -> dict[str, list[Physics]]:
    """Measures of a run's clips in and out of range; made once."""
    kept = run.folder / f"measured-{count}.json"
    if not kept.is_file() or kept.stat().st_mtime < run.file.stat().st_mtime:
        predictor, rows = Predictor(recipe, run.file), {}
        for split in IN_WORDS:
            scenes = held_out(count, split)
            clips = (predictor.go_on(scene, seed=index) for index, scene in enumerate(scenes))
            found = [measure(clip, scene) for clip, scene in zip(clips, scenes, strict=True)]
            rows[split] = [dataclasses.asdict(row) for row in found]
        with whole_file(kept) as part:
            part.write_text(json.dumps(rows), encoding="utf-8")
    rows = json.loads(kept.read_text(encoding="utf-8"))
    return {split: [_read(row) for row in found] for split, found in rows.items()}


def _read(row: dict[str, Any]) -> Physics:
    return Physics(**{**row, "iq": Likeness(**row["iq"])})


def difference(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean difference of paired measures [seed][clip], and the interval in which 95 of 100 resamples lie.

    Pairs are of the same clip and seed; clips are drawn anew with replacement, each with all its seeds. What is not
    measured in either (NaN) is left out.
    """
    with np.errstate(invalid="ignore"):
        pairs = np.asarray(one) - np.asarray(other)  # [seeds,clips]
    known = ~np.isnan(pairs).all(0)
    clips = np.nanmean(pairs[:, known], 0)
    rng = np.random.default_rng(0)
    drawn = clips[rng.integers(0, len(clips), (RESAMPLES, len(clips)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": float(clips.mean()), "low": float(low), "high": float(high), "clips": len(clips)}


def report(found: Mapping[str, Sequence[Mapping[str, Sequence[Physics]]]]) -> dict[str, Any]:
    """Means with deviation over seeds of every arm, and the paired differences; {arm: [seed: {split: measures}]}."""
    arms, pairs = {}, {}
    for split, words in IN_WORDS.items():
        for arm, seeds in found.items():
            means = [average(list(rows[split])) for rows in seeds]
            arms[f"{arm}, {words}"] = {
                name: {
                    "mean": float(np.mean([getattr(mean, name) for mean in means])),
                    "deviation": float(np.std([getattr(mean, name) for mean in means])),
                }
                for name in MEASURES
            }
        for one, other in COMPARED:
            if one in found and other in found:
                values = {
                    name: [[[getattr(row, name) for row in rows[split]] for rows in found[arm]] for arm in (one, other)]
                    for name in MEASURES
                }
                pairs[f"{one} − {other}, {words}"] = {name: difference(*both) for name, both in values.items()}
    return {"arms": arms, "differences": pairs}


def experiment(out: Path, *, recipe: StarterRecipe = RECIPE, steps: int = STEPS, count: int = 48) -> dict[str, Any]:
    """Trains what is not trained yet, measures what is not measured yet, and compares.

    Args:
        out: folder of all runs; what an earlier session left there is gone on with.
        count: held-out clips of each range, scenes in turn.
    """
    found: dict[str, list[dict[str, list[Physics]]]] = {}
    facts = []
    for seed in SEEDS:  # one after another, so that what is interrupted has whole comparisons
        for arm in ARMS:
            if arm == BASE and seed:
                continue
            run = Run(arm, seed, out)
            own = run.recipe(recipe, steps)
            log.info("%s, seed %d: %d steps.", arm, seed, own.steps)
            train(run, own)
            found.setdefault(arm, []).append(measured(run, own, count))
            record = read_facts(run.file)["recipe"]
            facts.append({"arm": arm, "seed": seed, **{n: record[n] for n in ("step", "core_minutes", "figures")}})
    found[BASE] *= len(SEEDS)
    return {"evaluation": "physics-experiment", "clips": count, **report(found), "runs": facts}


def table(document: Mapping[str, Any]) -> str:
    """Markdown of the arms and of the differences."""
    lines = [f"| arm | {' | '.join(MEASURES.values())} |", "| --- | ---: | ---: | ---: |"]
    for arm, row in document["arms"].items():
        values = (f"{row[name]['mean']:.3f} ± {row[name]['deviation']:.3f}" for name in MEASURES)
        lines.append(f"| {arm} | {' | '.join(values)} |")
    lines += ["", f"| difference (95 % interval) | {' | '.join(MEASURES.values())} |", "| --- | ---: | ---: | ---: |"]
    for pair, row in document["differences"].items():
        values = (f"{row[n]['mean']:+.3f} ({row[n]['low']:+.3f} to {row[n]['high']:+.3f})" for n in MEASURES)
        lines.append(f"| {pair} | {' | '.join(values)} |")
    return "\n".join(lines)


def plot(document: Mapping[str, Any], path: Path) -> None:
    """The differences with their intervals, as an SVG: left of zero the first arm is better in the first two."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "kinora"
    from matplotlib import pyplot

    pairs = list(reversed(document["differences"].items()))
    figure, axes = pyplot.subplots(
        1, len(MEASURES), figsize=(14, 0.5 * len(pairs) + 1.2), layout="constrained", sharey=True
    )
    for axis, (name, title) in zip(axes, MEASURES.items(), strict=True):
        for place, (_, row) in enumerate(pairs):
            axis.plot([row[name]["low"], row[name]["high"]], [place, place], color="C0")
            axis.plot(row[name]["mean"], place, "o", color="C0")
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(title=title, yticks=range(len(pairs)), yticklabels=[pair for pair, _ in pairs])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))  # no namespaces of others
    pyplot.close(figure)
