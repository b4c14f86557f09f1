"""Figures against targets: the rows of the table and the JSON."""

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. A target is met from above, or from below when `lower` is set; None = only reported."""

    name: str
    value: float
    unit: str = "%"
    target: float | None = None
    lower: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        return self.value < self.target if self.lower else self.value >= self.target

    def row(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "value": round(self.value, 3), "met": self.met}


def share(name: str, hits: list[bool], *, target: float | None = None, lower: bool = False) -> Figure:
    """Percentage of hits."""
    return Figure(name=name, value=100.0 * sum(hits) / max(len(hits), 1), target=target, lower=lower)


def table(figures: list[Figure]) -> str:
    """Lines of name, figure, target, met."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'measure':<{width}}  {'figure':>10}  {'target':>10}  met"]
    for figure in figures:
        target = "-" if figure.target is None else f"{'<' if figure.lower else '>='} {figure.target:g}"
        met = {None: "-", True: "yes", False: "MISSED"}[figure.met]
        lines.append(f"{figure.name:<{width}}  {figure.value:>7.1f} {figure.unit:<2}  {target:>10}  {met}")
    return "\n".join(lines)


def write(path: Path, *, name: str, figures: list[Figure], facts: dict[str, Any]) -> None:
    """Store figures and how they were measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"evaluation": name, **facts, "figures": [figure.row() for figure in figures]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
