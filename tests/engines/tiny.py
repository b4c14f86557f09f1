"""A small real engine for tests: a network from a file, denoising steps, a decode in chunks, faults on demand."""

from __future__ import annotations

import os
from pathlib import Path

from engines import registry
from engines.prompting.tasks import TASKS, Task
from engines.request import Request, parameter
from engines.types import EngineSpec, Geometry, ModelSpec, Weights

REPO = "kinora-tests/tiny"
FILE = "tiny.safetensors"


class TinyRequest(Request):
    """A clip of coloured noise."""

    pause_s: float = parameter(0.0, label="Pause", help="Seconds a step takes.", group="quality")
    fault: str = parameter("", label="Fault", help="What goes wrong.", group="quality")
    picture: Path | None = parameter(None, label="Picture", help="Any file.", group="picture")


TINY = EngineSpec(
    name="tiny",
    title="Tiny",
    purpose="For tests.",
    tab="Tiny",
    request_type=TinyRequest,
    models=(
        ModelSpec(
            name="small",
            title="Tiny small",
            note="",
            weights=(Weights("transformer", (FILE,), REPO, 1000),),
            geometry=Geometry(
                sizes=((64, 48),), multiple=1, max_pixels=512 * 512, frame_stride=1, max_frames=1000, min_side=8
            ),
            defaults={"model": "small", "width": 64, "height": 48, "frames": 9, "steps": 4, "fps": 8},
        ),
    ),
    implementation="tests.engines.tiny_engine:TinyEngine",
    check=lambda request, model: [],
)


def write_checkpoint(models: Path) -> Path:
    """Put the model's file into a models folder."""
    import torch
    from safetensors.torch import save_file

    path = models / REPO / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    save_file({"weight": torch.randn(3, 3, generator=generator), "bias": torch.zeros(3)}, path)
    return path


if __name__ == "__main__":
    registry.SPECS["tiny"] = TINY
    TASKS["describe"] = Task("tests.engines.tiny_engine:describe", needs_device=True)
    TASKS["count"] = Task("tests.engines.tiny_engine:count")
    from engines.runtime.worker import main

    os._exit(main())
