"""Command line: python -m engines.evaluation starter NAME [--out FILE] [--count N] [--sheet PNG] [--transformer FILE]
              python -m engines.evaluation variants JSON JSON ... [--out FILE]
              python -m engines.evaluation physics [--count N] [--out FILE]
              python -m engines.evaluation physics-experiment [--count N] [--runs FOLDER] [--set NAME=VALUE]
              python -m engines.evaluation physics-iq REAL GENERATED [--out FILE]
              python -m engines.evaluation opens2v CLIPS [PICTURES --image-encoder FILE] [--out FILE]

`starter` prints measure, figure and target, and stores them as JSON (default docs/evaluation/NAME.json); with
--transformer another file takes the place of the shipped one. `variants` writes such JSON files side by side, as a
table and a plot (default docs/evaluation/flashi2v-variants). `physics` shows that the measures of the physics
benchmark tell true clips of its scenes from trivial ones, without any network. `physics-experiment` trains what the
physics branch is compared with and reports what comes out (default docs/evaluation/physics-experiment.json, with a
table and a plot beside it); stopped, it goes on from where it was. `physics-iq` scores a folder of
generated clips against one of real clips as the published scorer does. `opens2v` measures a folder of clips of
subjects: the benchmark's motion figure and, with a CLIP image encoder, a likeness to their pictures of our own.
"""

import argparse
import dataclasses
import json
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from engines.errors import StudioError
from engines.loading.checkpoints import load, open_checkpoint
from engines.training import arguments as given
from engines.training.recipe import with_settings
from engines.training.sample import contact_sheet
from engines.wan.encoder_keys import IMAGE_ENCODER
from engines.wording import both

from . import figures, opens2v, physics, physics_iq, variants
from .starter import ASSETS, AUTOENCODERS, EVALUATIONS, Options, evaluate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "evaluation"


def main(arguments: list[str] | None = None) -> int:
    """Run an evaluation; exit code 2 for a bad request, 0 even when a target is missed: it is reported, not hidden."""
    try:
        return _main(arguments)
    except given.Refused:
        return 2


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engines.evaluation", description=__doc__)
    parser.add_argument(
        "subject", choices=["starter", "variants", "physics", "physics-experiment", "physics-iq", "opens2v"]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(EVALUATIONS)}; JSON files; or folders")
    parser.add_argument("--out", type=given.out_file, help="JSON file (default docs/evaluation/NAME.json)")
    parser.add_argument("--count", type=given.count, default=0, help="number of cases (default: the evaluation's own)")
    parser.add_argument("--folder", type=given.present, default=ASSETS, help="folder of the starter files")
    parser.add_argument("--sheet", type=given.picture_file, help="also write a contact sheet of the first 24 clips")
    parser.add_argument("--transformer", type=given.present, help="another trained file to measure")
    parser.add_argument(
        "--image-encoder", type=given.present, help="a CLIP image encoder, for the likeness to pictures"
    )
    parser.add_argument(
        "--runs",
        type=given.out_folder,
        default=Path("runs/physics-experiment"),
        help="for physics-experiment: the folder of its runs",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="for physics-experiment: a recipe setting"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if options.subject == "physics":
        return _physics(options.count or 16, options.out or DOCS / "physics.json")
    if options.subject == "physics-experiment":
        return _experiment(options)
    if options.subject == "physics-iq":
        if len(options.names) != 2:
            parser.error("name the folder of real clips, then the folder of generated ones")
        return _physics_iq(*map(Path, options.names), out=options.out)
    if options.subject == "opens2v":
        if not 1 <= len(options.names) <= 2:
            parser.error("name the folder of clips, then perhaps that of their pictures")
        return _opens2v(*map(Path, options.names), encoder=options.image_encoder, out=options.out)
    if not options.names:
        parser.error(f"name one of {', '.join(EVALUATIONS)}, or JSON files")
    if options.subject == "variants":
        out = options.out or DOCS / "flashi2v-variants"
        with given.refusing():
            _check_plots()
            table = variants.write([Path(name) for name in options.names], out)
        sys.stdout.write(f"{table}\n")
        return 0
    name = options.names[0]
    if len(options.names) > 1 or name not in EVALUATIONS:
        parser.error(f"there is no starter {' '.join(options.names)}: choose one of {', '.join(EVALUATIONS)}")
    if options.set or options.image_encoder or (name == "speed" and options.transformer):
        parser.error(f"{name} takes no --set, --image-encoder" + " or --transformer" * (name == "speed"))
    with given.refusing():
        file = {"vae" if name in AUTOENCODERS else "transformer": options.transformer}
        told = Options(count=options.count, folder=options.folder, **file)
        outcome = evaluate(name, told)
    sys.stdout.write(figures.table(outcome.figures) + "\n")
    out = options.out or DOCS / f"{name}.json"
    figures.write(out, name=f"starter {name}", figures=outcome.figures, facts=outcome.facts)
    if options.sheet:
        shown = outcome.references[:24] if outcome.references else None
        Image.fromarray(contact_sheet(outcome.clips[:24], columns=6, references=shown)).save(options.sheet)
    return 0


def _physics(count: int, out: Path) -> int:
    """The separation of true, frozen and constant-velocity clips, printed and stored."""
    measured = physics.separation(count)
    sys.stdout.write(physics.table(measured) + "\n")
    rows = {scene: {clip: dataclasses.asdict(row) for clip, row in clips.items()} for scene, clips in measured.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"evaluation": "physics", "clips": count, "scenes": rows}, indent=1) + "\n", "utf-8")
    return 0


def _check_plots() -> None:
    """Before hours of work; raises ValueError."""
    if find_spec("matplotlib") is None:
        raise ValueError("Plots are drawn by matplotlib: run `pip install matplotlib`.")


def _experiment(options: argparse.Namespace) -> int:
    """The arms trained, measured and compared; 130 when it was stopped before the end."""
    from . import physics_experiment as experiment

    out = options.out or DOCS / "physics-experiment.json"
    logging.getLogger().setLevel(logging.INFO)
    with given.refusing():
        _check_plots()
        if taken := {one.partition("=")[0] for one in options.set}.intersection(experiment.OWN):
            raise ValueError(f"{both(sorted(taken))} cannot be set: the experiment does that itself.")
        recipe = with_settings(experiment.RECIPE, [f"steps={experiment.STEPS}", *options.set])
        recipe = dataclasses.replace(recipe, files=str(options.folder))
        try:
            found = experiment.experiment(options.runs, recipe=recipe, steps=recipe.steps, count=options.count or 48)
        except KeyboardInterrupt:
            return 130
    table = experiment.table(found)
    sys.stdout.write(f"{table}\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    experiment.plot(found, out.with_suffix(".svg"))
    out.with_suffix(".md").write_text(f"{table}\n", "utf-8")
    return 0


def _physics_iq(real: Path, generated: Path, *, out: Path | None) -> int:
    """The score of a folder; exit code 2 for folders that cannot be compared."""
    for folder in (real, generated):
        if not folder.is_dir():
            sys.stderr.write(f"There is no folder {folder.name}.\n")
            return 2
    try:
        found = physics_iq.score_folders(real, generated)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name, value in dataclasses.asdict(found.made).items():
        sys.stdout.write(f"{name:<16}{value:>8.4f}\n")
    no_score = "no score: it needs second takes of the real clips, under the published names"
    sys.stdout.write(
        f"{found.clips} clips, " + (no_score if found.score is None else f"score {found.score:.2f}") + "\n"
    )
    if out:
        out.write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", "utf-8")
    return 0


def _opens2v(clips: Path, pictures: Path | None = None, *, encoder: Path | None, out: Path | None) -> int:
    """What can be computed of OpenS2V-Eval for a folder; exit code 2 for files that cannot be used."""
    try:
        network = load(open_checkpoint((encoder,)), IMAGE_ENCODER, dtype=torch.float32) if encoder else None
        found = opens2v.score_folder(clips, pictures, network)
    except (ValueError, StudioError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name, scores in found.items():
        alike = "" if scores.likeness is None else f"  likeness {scores.likeness:.3f}"
        sys.stdout.write(f"{name:<32} motion_fb {scores.motion_fb:.3f}{alike}\n")
    if out:
        rows = {name: dataclasses.asdict(scores) for name, scores in found.items()}
        out.write_text(json.dumps({"evaluation": "opens2v", "clips": rows}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
