"""The same work by this project and by diffusers' WanPipeline, with the time of every step and the peak of memory."""

from __future__ import annotations

import copy
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

from engines.memory.devices import PeakMeter
from engines.phantom_wan.engine import sample
from engines.sampling import guidance
from engines.wan.latents import denormalised, latent_shape
from engines.wan.text import PUBLISHED_TEXT_LEN
from engines.wan.vae import decode_frames

SCALE, SHIFT = 5.0, 3.0


@dataclass
class Timed:
    """What some work took.

    Attributes:
        seconds: of its parts, such as steps.
        peak_bytes: the most memory that torch held of the GPU meanwhile; 0 where there is none.
        result: what was made.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    result: Any = None

    @property
    def step(self) -> float:
        """A typical part, the first left out: it also warms up."""
        return statistics.median(self.seconds[1:] or self.seconds)


class Clock:
    """Times what a device does, not what it was told to do."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> float:
        """Seconds, once everything that was asked for is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any]) -> float:
        """What some work takes; what it gives is kept until the clock is read."""
        began = self.now()
        kept = work()
        taken = self.now() - began
        del kept
        return taken

    @contextmanager
    def timed(self) -> Iterator[Timed]:
        """Seconds and peak of a block; memory that nobody uses is given back before."""
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        found, meter, began = Timed(), PeakMeter(self._device), self.now()
        yield found
        found.seconds = found.seconds or [self.now() - began]
        found.peak_bytes = meter.peak_bytes() if self._device.type == "cuda" else 0


@dataclass(frozen=True)
class Clip:
    """A text-to-video clip with two passes of guidance a step, as both make it.

    Attributes:
        noise: latents [C,F,h,w].
        texts: states [L,D] of the prompt and of the negative prompt.
    """

    width: int
    height: int
    frames: int
    noise: torch.Tensor
    texts: tuple[torch.Tensor, torch.Tensor]

    @classmethod
    def drawn(cls, vae: Any, text_dim: int, *, width: int, height: int, frames: int, device: torch.device) -> Clip:
        """One of random noise and random texts.

        Args:
            vae: the autoencoder's configuration.
        """
        with torch.device(device):
            noise = torch.randn(latent_shape(vae, width=width, height=height, frames=frames))
            texts = tuple(0.1 * torch.randn(PUBLISHED_TEXT_LEN, text_dim) for _ in range(2))
        return cls(width, height, frames, noise, texts)

    def ours(self, network: WanTransformer3DModel, steps: int, clock: Clock, *, passes: int = 2) -> Timed:
        """Denoised by Phantom's own recipe, given no pictures; latents [C,F,h,w]."""
        scheduler = _scheduler()
        scheduler.set_timesteps(steps)
        scheduler.set_begin_index(0)
        with clock.timed() as found:
            mark = clock.now()
            for state in sample(
                network,
                noise=self.noise.clone(),
                references=self.noise[:, :0],
                prompt=self.texts[0],
                negative=self.texts[1],
                weights=guidance.subject(1.0, SCALE if passes == 2 else 1.0),
                scheduler=scheduler,
                batched=False,
            ):
                mark, found.result = _lap(found, clock, mark), state.latents
        return found

    def theirs(self, network: WanTransformer3DModel, steps: int, clock: Clock) -> Timed:
        """The same by diffusers' pipeline."""
        with torch.device(self.noise.device):
            vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1)  # none is used: it says how many pixels a latent is
        pipeline = WanPipeline(
            tokenizer=None, text_encoder=None, vae=vae, transformer=network, scheduler=_scheduler()
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        prompt, negative = (text[None].to(network.dtype) for text in self.texts)
        with clock.timed() as found:
            mark = clock.now()

            def lap(*_: Any) -> dict[str, Any]:
                nonlocal mark
                mark = _lap(found, clock, mark)
                return {}

            made = pipeline(
                prompt_embeds=prompt,
                negative_prompt_embeds=negative,
                latents=self.noise[None].clone(),
                height=self.height,
                width=self.width,
                num_frames=self.frames,
                num_inference_steps=steps,
                guidance_scale=SCALE,
                output_type="latent",
                callback_on_step_end=lap,
            )
        found.result = made.frames[0]
        return found

    def decoded(self, vae: AutoencoderKLWan, manner: str, clock: Clock) -> Timed:
        """The noise taken for latents, decoded by this project: frames uint8 [T,H,W,3]."""
        with clock.timed() as found:
            pieces = [piece for piece in decode_frames(vae, self.noise, manner=manner) if len(piece)]
        found.result = np.concatenate(pieces)
        return found

    def decoded_at_once(self, vae: AutoencoderKLWan, clock: Clock) -> Timed:
        """The same by the autoencoder's own method, as the pipeline calls it."""
        with clock.timed() as found, torch.no_grad():
            video = vae.decode(denormalised(self.noise[None], vae.config).to(vae.dtype), return_dict=False)[0]
            levels = ((video[0].float() + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
            found.result = levels.permute(1, 2, 3, 0).contiguous().cpu().numpy()
        return found


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative distance."""
    return float((one.float() - other.float()).norm() / other.float().norm())


def levels_apart(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two clips, in levels of 255."""
    return max(int(np.abs(a.astype(np.int16) - b).max()) for a, b in zip(one, other, strict=True))


def _lap(found: Timed, clock: Clock, mark: float) -> float:
    now = clock.now()
    found.seconds.append(now - mark)
    return now


def _scheduler() -> UniPCMultistepScheduler:
    return copy.deepcopy(
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    )
