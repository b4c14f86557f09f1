"""A golden case read from its folder: case.json, expected.safetensors, and the inputs and weights rebuilt by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from tests.golden import recipe


@dataclass(frozen=True)
class Case:
    """One case; the fields are those of case.json."""

    folder: Path
    engine: str
    component: str
    config: Mapping[str, Any]
    weights: Mapping[str, Any]
    salt: str
    input_specs: Mapping[str, Any]
    call: Mapping[str, Any]
    expected: Mapping[str, torch.Tensor]
    atol: float
    rtol: float
    own_tolerances: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path) -> Case:
        """The case in `folder`; raises OSError, KeyError or ValueError if it is broken."""
        data = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        expected = load_file(folder / "expected.safetensors")
        if missing := data["outputs"].keys() - expected.keys():
            raise ValueError(f"expected.safetensors lacks {', '.join(sorted(missing))}")
        return cls(
            folder=folder,
            engine=data["engine"],
            component=data["component"],
            config=data.get("config") or {},
            weights=data.get("weights") or {},
            salt=data.get("salt", ""),
            input_specs=data.get("inputs") or {},
            call=data.get("call") or {},
            expected={name: expected[name] for name in data["outputs"]},
            atol=data["tolerance"]["atol"],
            rtol=data["tolerance"]["rtol"],
            own_tolerances={name: data[f"{name}_tolerance"] for name in data["outputs"] if f"{name}_tolerance" in data},
        )

    def input(self, name: str) -> Any:
        """One input: a tensor (float32, or int64 for ids) or the literal value."""
        spec = self.input_specs[name]
        match spec["kind"]:
            case "value":
                return spec["value"]
            case "normal":
                values = recipe.normal(name, spec["shape"], self.salt) * np.float32(spec.get("scale", 1))
                return torch.from_numpy(values)
            case "ids":
                values = np.float32(1000) * recipe.normal(name, spec["shape"], self.salt)
                return torch.from_numpy(np.abs(values.astype(np.int64)) % spec["high"])
            case kind:
                raise ValueError(f"unknown kind of input {kind!r}")

    def numbered(self, prefix: str) -> list[Any]:
        """The inputs prefix_0, prefix_1, ... in order."""
        names = [
            name for name in self.input_specs if name.startswith(f"{prefix}_") and name[len(prefix) + 1 :].isdigit()
        ]
        return [self.input(name) for name in sorted(names, key=lambda name: int(name[len(prefix) + 1 :]))]

    def tensors(self, network: str | None = None) -> dict[str, torch.Tensor]:
        """The weights, of one `network` where the case has several, in the published checkpoint's key names."""
        shapes = self.weights if network is None else self.weights[network]
        return {key: torch.from_numpy(np.asarray(value)) for key, value in recipe.state_dict(shapes, self.salt).items()}


@dataclass(frozen=True)
class Verdict:
    """How far the product's outputs are from the reference's."""

    passed: bool
    max_error: float
    message: str = ""


def compare(case: Case, outputs: Mapping[str, torch.Tensor]) -> Verdict:
    """Every expected output within atol + rtol * |expected|, of the same shape.

    An output with a tolerance of its own (whole levels of a picture, where a rounding error can turn one) may differ by
    its `atol`, and in no more than its `max_share_different` of the values.
    """
    worst, passed = 0.0, True
    for name, expected in case.expected.items():
        if name not in outputs:
            return Verdict(False, float("inf"), f"no output {name}")
        actual = torch.as_tensor(outputs[name]).to(torch.float64)
        if actual.shape != expected.shape:
            return Verdict(False, float("inf"), f"{name} is {list(actual.shape)}, expected {list(expected.shape)}")
        error = (actual - expected.double()).abs()
        worst = max(worst, error.max().item() if error.numel() else 0.0)
        own = case.own_tolerances.get(name, {})
        allowed = own.get("atol", case.atol) + own.get("rtol", 0.0 if own else case.rtol) * expected.double().abs()
        passed &= bool((error <= allowed).all())
        passed &= bool((error > 0).double().mean() <= own.get("max_share_different", 1.0))
    return Verdict(passed, worst, "" if passed else "beyond tolerance")
