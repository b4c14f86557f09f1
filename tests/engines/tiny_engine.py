"""The torch half of the tiny test engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import load_file

from engines import registry
from engines.events import Answer, Note, Stage, Words
from engines.messages import Ask
from engines.runtime.session import Session
from engines.types import Component, Context, Frames, LatentStep

CHUNK = 4


class TinyEngine:
    """Noise mixed through a 3x3 linear layer, step by step."""

    def generate(self, request: Any, context: Context) -> Iterator[Any]:
        (path,) = context.paths("transformer")
        component = network(context)
        yield Stage(name="Loading")
        if request.fault == "print":
            print("a library talks")
            os.write(1, b"a C library talks\n")
        noise = torch.randn(
            request.frames, request.height, request.width, 3, generator=torch.Generator().manual_seed(request.seed)
        )
        encoding = context.remember(request.prompt, lambda: torch.full((1,), float(len(request.prompt))))
        with context.use(component, working_bytes=1000) as layer:
            yield Stage(name="Denoising")
            for index in range(request.steps):
                if request.pause_s:
                    time.sleep(request.pause_s)
                if request.fault == "memory":
                    raise torch.OutOfMemoryError("CUDA out of memory")
                if request.fault == "error":
                    raise RuntimeError(f"broken in {path}")
                if request.fault == "die":
                    os._exit(9)
                noise = torch.tanh(layer(noise)) + 0.01 * encoding
                state = noise
                yield LatentStep(index + 1, request.steps, lambda state=state: pixels(state[:, ::4, ::4]))
        yield Note(message="tiny")
        yield Stage(name="Decoding")
        for start in range(0, request.frames, CHUNK):
            if request.pause_s:
                time.sleep(request.pause_s)
            yield Frames(pixels(noise[start : start + CHUNK]))


def network(context: Context) -> Component:
    """The one layer of the model."""
    (path,) = context.paths("transformer")

    def build() -> torch.nn.Module:
        layer = torch.nn.Linear(3, 3)
        layer.load_state_dict(load_file(path))
        return layer.requires_grad_(requires_grad=False)

    return Component(key="tiny/transformer", build=build, size_bytes=48, role="transformer", precision="float32")


def describe(question: Ask, session: Session) -> Iterator[Words | Answer]:
    """A word for each word of the text, written by the same layer that makes the clips."""
    context = session.context("tiny", registry.SPECS["tiny"].model("small"))
    state = torch.ones(3)
    said = []
    for word in question.text.split():
        with context.use(network(context)) as layer:
            state = torch.tanh(layer(state))
        said.append(f"{word} {state.sum():.3f}")
        yield Words(text=said[-1])
    if question.text == "break":
        raise RuntimeError("broken")
    yield Answer(text=" ".join(said))


def count(question: Ask, session: None) -> Iterator[Words | Answer]:
    """Counts slowly, as far as the text says."""
    assert session is None
    for number in range(int(question.text)):
        yield Words(text=str(number))
        time.sleep(0.05)
    yield Answer(text=question.text)


def pixels(noise: torch.Tensor) -> Any:
    """Values in -1..1 as uint8 frames."""
    return ((noise.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
