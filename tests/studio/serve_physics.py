"""Serves the studio with a tiny physics model of the real classes, whose checkpoint takes drawn forces.

python -m tests.studio.serve_physics PORT OUTPUTS
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from engines import registry
from engines.types import EngineSpec
from studio import serving
from studio.jobs import local
from studio.settings import Settings, from_environment
from tests.engines.tiny_models import TINY

NAME = "phantom-physics"


def named(spec: EngineSpec) -> EngineSpec:
    """The same with a name for each of the tiny model's files, as every model of the page has them."""
    tiny, *others = spec.models
    weights = tuple(replace(one, files=(f"{one.role}.safetensors",)) for one in tiny.weights)
    return replace(spec, models=(replace(tiny, weights=weights), *others))


if __name__ == "__main__":
    port, outputs = int(sys.argv[1]), Path(sys.argv[2])
    model = outputs.parent / "model"
    model.mkdir()
    files = TINY[NAME].write(model)
    overrides = tuple(f"{NAME}/tiny/{role}={paths[0]}" for role, paths in files.items())
    registry.SPECS[NAME] = named(TINY[NAME].spec)
    original = local.LocalExecutor.__init__

    def with_tiny(self: local.LocalExecutor, settings: Settings, store: object) -> None:
        original(self, settings, store, command=(sys.executable, "-m", "tests.studio.tiny_physics"))

    local.LocalExecutor.__init__ = with_tiny
    serving.run(from_environment(port=port, outputs=outputs, devices=("cpu",), overrides=overrides))
