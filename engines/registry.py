"""The engines, by name. Specs are torch-free; an implementation is imported on first use, inside a worker."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from engines.bindweave.spec import BINDWEAVE
from engines.errors import InvalidRequest, Problem
from engines.flashi2v.spec import FLASHI2V
from engines.phantom_physics.spec import PHANTOM_PHYSICS
from engines.phantom_wan.spec import PHANTOM_WAN
from engines.pyramid_flow.spec import PYRAMID_FLOW
from engines.types import EngineSpec
from engines.wording import either, given

SPECS: dict[str, EngineSpec] = {
    spec.name: spec for spec in (PHANTOM_WAN, BINDWEAVE, FLASHI2V, PYRAMID_FLOW, PHANTOM_PHYSICS)
}


def find(name: object, specs: Mapping[str, EngineSpec] = SPECS) -> EngineSpec:
    """The engine of this name; raises InvalidRequest."""
    if not isinstance(name, str) or name not in specs:
        sentence = f"There is no engine {given(name)}: choose {either([*specs])}."
        raise InvalidRequest([Problem("engine", sentence)])
    return specs[name]


def implementation(spec: EngineSpec) -> Any:
    """A new instance of the engine behind `spec`; imports torch."""
    module, name = spec.implementation.split(":")
    return getattr(import_module(module), name)()
