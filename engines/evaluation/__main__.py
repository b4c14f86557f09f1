"""Command line: python -m engines.evaluation starter NAME [--out FILE] [--count N] [--sheet PNG]

Prints measure, figure and target, and stores them as JSON (default docs/evaluation/NAME.json).
"""

import argparse
import logging
import sys
from pathlib import Path

from PIL import Image

from engines.training.sample import contact_sheet

from . import figures
from .starter import ASSETS, EVALUATIONS, Options, evaluate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "evaluation"


def main(arguments: list[str] | None = None) -> int:
    """Run an evaluation; exit code 0 even when a target is missed: it is reported, not hidden."""
    parser = argparse.ArgumentParser(prog="python -m engines.evaluation", description=__doc__)
    parser.add_argument("subject", choices=["starter"])
    parser.add_argument("name", choices=sorted(EVALUATIONS))
    parser.add_argument("--out", type=Path, help="JSON file (default docs/evaluation/NAME.json)")
    parser.add_argument("--count", type=int, default=0, help="number of cases (default: the evaluation's own)")
    parser.add_argument("--folder", type=Path, default=ASSETS, help="folder of the starter files")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of the first 24 clips")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    outcome = evaluate(options.name, Options(count=options.count, folder=options.folder))
    sys.stdout.write(figures.table(outcome.figures) + "\n")
    out = options.out or DOCS / f"{options.name}.json"
    figures.write(out, name=f"starter {options.name}", figures=outcome.figures, facts=outcome.facts)
    if options.sheet:
        shown = outcome.references[:24] if outcome.references else None
        Image.fromarray(contact_sheet(outcome.clips[:24], columns=6, references=shown)).save(options.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
