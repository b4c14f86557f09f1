"""Evaluations of one starter's variants side by side: a table and a plot, from the JSON that each evaluation stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Measures of the comparison in its plot: (name in the JSON, title).
BARS = (
    ("first frame PSNR", "First frame against the picture, dB"),
    ("dynamic degree, share of the real clips'", "Dynamic degree, % of real clips"),
)
CURVES = (
    ("colour_drift", "Colour drift per chunk, CIEDE2000"),
    ("distance_from_real", "Distance from the real clip per chunk"),
)


def read(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Evaluations by variant, in the given order.

    Raises:
        OSError: a file cannot be opened.
        ValueError: a file is no evaluation of a variant.
    """
    found = {}
    for path in paths:
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not {"variant", "curves", "figures"} <= document.keys():
            raise ValueError(f"{path.name} is no evaluation of a variant: make it with 'starter flashi2v'.")
        if document["variant"] in found:
            raise ValueError(
                f"{path.name} is of the variant {document['variant']}, as one before it: name one of each."
            )
        found[document["variant"]] = document
    return found


def table(documents: dict[str, dict[str, Any]]) -> str:
    """A markdown table: a row a measure, a column a variant, curves at the end."""
    lines = [f"| measure | {' | '.join(documents)} | target |", f"| --- |{' ---: |' * (len(documents) + 1)}"]
    columns = [{figure["name"]: figure for figure in document["figures"]} for document in documents.values()]
    for name, figure in columns[0].items():
        target = "" if figure["target"] is None else f"{'<' if figure['lower'] else '≥'} {figure['target']:g}"
        unit = f" ({figure['unit']})" if figure["unit"] else ""
        values = [f"{column[name]['value']:.2f}" if name in column else "–" for column in columns]
        lines.append(f"| {name}{unit} | {' | '.join(values)} | {target} |")
    for key, title in CURVES:
        rows = [", ".join(f"{value:.2f}" for value in document["curves"][key]) for document in documents.values()]
        lines.append(f"| {title} | {' | '.join(rows)} | |")
    return "\n".join(lines)


def plot(documents: dict[str, dict[str, Any]], path: Path) -> None:
    """Curves over temporal chunks and bars of single figures, as an SVG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "kinora"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CURVES) + len(BARS), figsize=(14, 3.4), layout="constrained")
    for axis, (key, title) in zip(axes, CURVES, strict=False):
        for variant, document in documents.items():
            values = document["curves"][key]
            axis.plot(range(1, len(values) + 1), values, marker="o", label=variant)
        axis.set(title=title, xlabel="chunk", xticks=range(1, len(values) + 1), ylim=(0, None))
        axis.legend()
    for axis, (name, title) in zip(axes[len(CURVES) :], BARS, strict=True):
        values = [
            next(figure["value"] for figure in document["figures"] if figure["name"] == name)
            for document in documents.values()
        ]
        axis.bar(list(documents), values, color=[f"C{index}" for index in range(len(values))])
        axis.set(title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))  # no namespaces of others
    pyplot.close(figure)


def write(paths: list[Path], out: Path) -> str:
    """Write the table as `out`.md with the plot beside it as `out`.svg; returns the table."""
    documents = read(paths)
    plot(documents, out.with_suffix(".svg"))
    shown, picture = table(documents), out.with_suffix(".svg").name
    out.with_suffix(".md").write_text(
        f"# FlashI2V's starter: three ways for the picture to enter\n\nThe same base, data, seeds and steps. "
        f"Written by `python -m engines.evaluation variants`.\n\n{shown}\n\n![Curves and bars]({picture})\n",
        encoding="utf-8",
    )
    return shown
