"""Command line of the trainer: python -m engines.training RECIPE [--minutes M] [--resume] [--set NAME=VALUE]
                             python -m engines.training all [--minutes M] [--device cuda]

`all` trains every starter in turn, at low priority, from the files in assets/starter on, and ships what is better.
"""

import argparse
import contextlib
import dataclasses
import logging
import os
import sys
from pathlib import Path

import torch

from . import arguments as given
from .recipe import with_settings
from .recipes import MODULES, recipe_module
from .share import joined, several
from .trainer import Trainer


def main(arguments: list[str] | None = None) -> int:
    """Run a recipe; exit code 0, or 2 for a bad request."""
    try:
        return _main(arguments)
    except given.Refused:
        return 2


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m engines.training", description=__doc__)
    parser.add_argument("recipe", choices=["all", *sorted(MODULES)])
    parser.add_argument(
        "--out", type=given.out_folder, help="run folder (default runs/RECIPE; for all: the folder of them, runs)"
    )
    parser.add_argument("--device", type=given.device, default="cpu", help="cpu (default) or cuda, cuda:1, ...")
    parser.add_argument(
        "--minutes",
        type=given.minutes,
        help="wall time of the whole run, earlier sessions included; for all: of this session",
    )
    parser.add_argument("--threads", type=given.count, help="CPU threads (default: all)")
    parser.add_argument(
        "--folder", type=given.present, default=Path("assets/starter"), help="for all: the starter files"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the run folder's checkpoint")
    parser.add_argument(
        "--dry-run", action="store_true", help="recipes at full size: print shapes and memory, and stop"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a recipe setting")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.recipe == "all":
        return _everything(options)
    module = recipe_module(options.recipe)
    settings = options.set + ([f"minutes={options.minutes}"] if options.minutes is not None else [])
    with given.refusing():
        recipe = with_settings(module.RECIPE, settings)
    if options.dry_run:
        if not hasattr(module, "dry_run"):
            sys.stderr.write(f"{options.recipe} has no dry run: it is small enough to start.\n")
            return 2
        sys.stdout.write("\n".join(module.dry_run(recipe)) + "\n")
        return 0
    torch.manual_seed(recipe.seed)
    folder = options.out or Path("runs") / options.recipe
    if options.resume and not (folder / "state.pt").is_file():
        sys.stderr.write(f"There is no run in {folder.name} to go on with: leave out --resume.\n")
        return 2
    with given.refusing():
        share = joined(options.device, rows=recipe.divided)
        recipe = dataclasses.replace(recipe, seed=share.seed(recipe.seed))
        trainer = Trainer(recipe, module.build(recipe), folder, device=options.device, share=share)
        if options.resume:
            trainer.resume()
    trainer.run()
    share.leave()
    return 0


def _everything(options: argparse.Namespace) -> int:
    from .everything import Everything

    if options.set or options.resume or options.dry_run:
        sys.stderr.write("all takes no --set, --resume or --dry-run: it goes on by itself from what is there.\n")
        return 2
    if several():
        sys.stderr.write("all trains in one process: start one recipe by several.\n")
        return 2
    workers = 1
    if options.device == "cpu":
        _step_back()
    else:
        workers = max(1, min(12, (os.cpu_count() or 2) - 2))
    with given.refusing():
        session = Everything(options.folder, options.out or Path("runs"), device=options.device, workers=workers)
    session.run(options.minutes)
    return 0


def _step_back() -> None:
    """The lowest priority: of this process, and of the session that it leads, for Linux shares by sessions first."""
    os.nice(19)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # a system or a kernel that does not group by sessions
            Path("/proc/self/autogroup").write_text("19", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
