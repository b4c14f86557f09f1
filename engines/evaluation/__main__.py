"""Command line: python -m engines.evaluation starter NAME [--out FILE] [--count N] [--sheet PNG] [--transformer FILE]
              python -m engines.evaluation variants JSON JSON ... [--out FILE]

`starter` prints measure, figure and target, and stores them as JSON (default docs/evaluation/NAME.json); with
--transformer another file takes the place of the shipped one. `variants` writes such JSON files side by side, as a
table and a plot (default docs/evaluation/flashi2v-variants).
"""

import argparse
import logging
import sys
from pathlib import Path

from PIL import Image

from engines.training.sample import contact_sheet

from . import figures, variants
from .starter import ASSETS, EVALUATIONS, Options, evaluate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "evaluation"


def main(arguments: list[str] | None = None) -> int:
    """Run an evaluation; exit code 0 even when a target is missed: it is reported, not hidden."""
    parser = argparse.ArgumentParser(prog="python -m engines.evaluation", description=__doc__)
    parser.add_argument("subject", choices=["starter", "variants"])
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(EVALUATIONS)}; or JSON files")
    parser.add_argument("--out", type=Path, help="JSON file (default docs/evaluation/NAME.json)")
    parser.add_argument("--count", type=int, default=0, help="number of cases (default: the evaluation's own)")
    parser.add_argument("--folder", type=Path, default=ASSETS, help="folder of the starter files")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of the first 24 clips")
    parser.add_argument("--transformer", type=Path, help="another trained file to measure")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if options.subject == "variants":
        out = options.out or DOCS / "flashi2v-variants"
        sys.stdout.write(variants.write([Path(name) for name in options.names], out) + "\n")
        return 0
    name = options.names[0]
    if len(options.names) > 1 or name not in EVALUATIONS:
        parser.error(f"there is no starter {' '.join(options.names)}: choose one of {', '.join(EVALUATIONS)}")
    outcome = evaluate(name, Options(count=options.count, folder=options.folder, transformer=options.transformer))
    sys.stdout.write(figures.table(outcome.figures) + "\n")
    out = options.out or DOCS / f"{name}.json"
    figures.write(out, name=f"starter {name}", figures=outcome.figures, facts=outcome.facts)
    if options.sheet:
        shown = outcome.references[:24] if outcome.references else None
        Image.fromarray(contact_sheet(outcome.clips[:24], columns=6, references=shown)).save(options.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
