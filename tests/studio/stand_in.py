"""A worker whose Phantom engine is a small real torch network, for tests that are about the studio.

The page, requests, processes and files are the true ones; only the clip is simple: the first reference picture slides
over a canvas through a convolution. Special prompts make it slow or make it die.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engines import registry
from engines.phantom_wan.spec import PHANTOM_WAN
from engines.types import EngineSpec

STEP_S = 0.3


def spec() -> EngineSpec:
    """Phantom's declaration with the stand-in behind it; its starter model needs no files."""
    starter = replace(PHANTOM_WAN.models[0], weights=())
    return replace(
        PHANTOM_WAN, models=(starter, *PHANTOM_WAN.models[1:]), implementation="tests.studio.stand_in:StandIn"
    )


class StandIn:
    """The engine: pictures in, frames out, a few steps."""

    def generate(self, request: Any, context: Any) -> Iterator[Any]:
        import numpy as np
        import torch

        from engines.events import Note, Stage
        from engines.media.framing import fit_on_canvas
        from engines.media.pictures import open_picture
        from engines.types import Frames, LatentStep

        yield Stage(name="Reading the prompt")
        words = request.prompt.split()
        picture = open_picture(request.references[0].path, as_published=request.published_pictures)
        canvas = fit_on_canvas(picture, width=request.width, height=request.height)
        image = torch.from_numpy(np.array(canvas)).permute(2, 0, 1)[None].float() / 255
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(request.seed))
        blur = torch.nn.AvgPool2d(3, stride=1, padding=1)

        def frames(mix: float, count: int) -> Any:
            state = blur(image) * mix + noise * (1 - mix)
            moved = [torch.roll(state, 2 * index, dims=3) for index in range(count)]
            return (torch.cat(moved).permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()

        yield Stage(name="Denoising")
        for index in range(request.steps):
            if "slowly" in words:
                time.sleep(STEP_S)
            if "dies" in words:
                os._exit(9)
            if "breaks" in words:
                raise RuntimeError("broken in " + __file__)
            share = (index + 1) / request.steps
            yield LatentStep(index + 1, request.steps, lambda share=share: frames(share, 8))
        if "noted" in words:
            yield Note(message="The prompt was short.")
        yield Stage(name="Decoding")
        made = frames(1.0, request.frames)
        for start in range(0, len(made), 8):
            yield Frames(made[start : start + 8])


if __name__ == "__main__":
    registry.SPECS[PHANTOM_WAN.name] = spec()
    from engines.runtime.worker import main

    os._exit(main())
