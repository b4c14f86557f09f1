"""The engines, by name. Specs are torch-free; an implementation is imported on first use, inside a worker."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from engines.flashi2v.spec import FLASHI2V
from engines.phantom_wan.spec import PHANTOM_WAN
from engines.pyramid_flow.spec import PYRAMID_FLOW
from engines.types import EngineSpec

SPECS: dict[str, EngineSpec] = {spec.name: spec for spec in (PHANTOM_WAN, FLASHI2V, PYRAMID_FLOW)}


def implementation(spec: EngineSpec) -> Any:
    """A new instance of the engine behind `spec`; imports torch."""
    module, name = spec.implementation.split(":")
    return getattr(import_module(module), name)()
