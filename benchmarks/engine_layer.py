"""python -m benchmarks.engine_layer: the engine layer against what its users would do without it, as ratios.

Random weights, small sizes, one thread; every row does the same work twice, interleaved, in one process or in two
forks of it. Ratios are ours / the peer's: below 1 is better; a figure above its target is marked. Nothing here needs a
GPU. Two rounds, the better of each: figures scatter by a tenth, so a row near its target wants more (ROUNDS).
"""

from __future__ import annotations

import gc
import hashlib
import mmap
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file

from engines.loading import networks
from engines.loading.networks import find_network
from engines.loading.store import Store
from engines.media.video import CRF, LOOKAHEAD, VideoWriter
from engines.memory.devices import PeakMeter, TorchDevice
from engines.memory.precision import BFLOAT16, FLOAT32
from engines.memory.residency import ComponentCache
from engines.phantom_wan.engine import PhantomWan
from engines.registry import SPECS
from engines.runtime.runner import run
from engines.runtime.session import Session
from engines.sampling import guidance
from engines.sampling.denoise import denoise
from engines.types import Component, LatentStep
from engines.validation import build_request
from engines.wan.latents import denormalised
from engines.wan.transformer import predict
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae import decode_frames

ROOT = Path(__file__).parents[1]
ROUNDS = 2
FILE = "diffusion_pytorch_model.safetensors"
SMALL = {"num_attention_heads": 2, "attention_head_dim": 128, "num_layers": 3, "ffn_dim": 768, "text_dim": 64}
LARGE = {"num_attention_heads": 8, "attention_head_dim": 128, "num_layers": 6, "ffn_dim": 4096, "text_dim": 1024}


class Row(NamedTuple):
    """One comparison; `held` is what the target is for, by default the ratio."""

    what: str
    peer: str
    ours: str
    theirs: str
    ratio: float
    target: float
    held: float | None = None

    def __str__(self) -> str:
        figure = self.ratio if self.held is None else self.held
        verdict = (
            f"{self.target:.2f}{'' if self.held is None else ' (ours)'}{', MISSED' if figure > self.target else ''}"
        )
        return f"| {self.what} | {self.peer} | {self.ours} | {self.theirs} | {self.ratio:.2f} | {verdict} |"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    torch.manual_seed(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        # Memory first: a fork finds room in what earlier rows left in the heap, and its peak would not show.
        for measure in (decoding, loading, switching, denoising, writing, events):
            began = time.monotonic()
            rows += measure(Path(folder))
            print(f"# {measure.__name__} {time.monotonic() - began:.0f} s", flush=True)
    print("| what | peer | ours | peer's | ratio | target |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(row)


def best(*works: Callable[[], Any]) -> list[float]:
    """Seconds of CPU, children included, of the best of a few interleaved rounds; other processes do not count."""
    seconds = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for index, work in enumerate(works):
            began = sum(os.times()[:4])
            work()
            seconds[index] = min(seconds[index], sum(os.times()[:4]) - began)
    return seconds


def peaks(*works: Callable[[Any], Any], small: Any, full: Any) -> list[int]:
    """Bytes by which each work on `full`, in a fork of its own, raised the peak memory of the process.

    It is done on `small` first: a fork starts without the pages of the libraries' code, which count when touched.
    """
    context = multiprocessing.get_context("fork")

    def child(work: Callable[[Any], Any], pipe: Any) -> None:
        work(small)
        gc.collect()
        before = PeakMeter(torch.device("cpu")).peak_bytes()
        kept = work(full)
        pipe.send(PeakMeter.peak_bytes(PEAK) - before)
        del kept
        os._exit(0)

    found = []
    for work in works:
        reading, writing = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(work, writing))
        process.start()
        found.append(reading.recv())
        process.join()
    return found


PEAK = PeakMeter(torch.device("cpu"))


def denoising(folder: Path) -> Iterator[Row]:
    """The same network, steps and guidance through our loop and through diffusers' pipeline."""
    network = WanTransformer3DModel(**SMALL).eval().requires_grad_(False)
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1, dim_mult=[1, 1, 1, 1])
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=network,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    steps, noise = 4, torch.randn(16, 5, 16, 24)
    prompt, negative = torch.randn(1, 32, 64), torch.randn(1, 32, 64)

    def theirs() -> torch.Tensor:
        return pipeline(
            prompt_embeds=prompt,
            negative_prompt_embeds=negative,
            latents=noise[None].clone(),
            height=128,
            width=192,
            num_frames=17,
            num_inference_steps=steps,
            output_type="latent",
        ).frames

    def ours(batched: bool) -> torch.Tensor:
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
        scheduler.set_timesteps(steps)
        conditions = {"cond": prompt[0], "uncond": negative[0]}

        def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            def passes(texts: list[torch.Tensor]) -> torch.Tensor:
                return predict(network, latents.expand(len(texts), *latents.shape), timestep, torch.stack(texts))

            return guidance.guided(passes, conditions, guidance.classifier_free(5.0), batched=batched)

        return [state.latents for state in denoise(noise.clone(), scheduler, velocity)][-1]

    apart = (ours(False) - theirs()[0]).norm() / theirs()[0].norm()
    peer, single, batch = best(theirs, lambda: ours(False), lambda: ours(True))
    same = f"diffusers WanPipeline (rel {apart:.0e})"
    yield Row("denoising, passes one by one", same, f"{single:.2f} s", f"{peer:.2f} s", single / peer, 1.03)
    yield Row("denoising, passes in a batch", same, f"{batch:.2f} s", f"{peer:.2f} s", batch / peer, 0.75)


def loading(folder: Path) -> Iterator[Row]:
    """A 200 MB checkpoint in bfloat16: peak memory above the process, and seconds."""
    small, full = ((folder / name, config) for name, config in (("small", SMALL), ("transformer", LARGE)))
    for saved, config in (small, full):
        WanTransformer3DModel(**config).to(torch.bfloat16).save_pretrained(saved)
    size = (full[0] / FILE).stat().st_size

    def ours(saved: Path, config: dict[str, int]) -> Any:
        networks._describe.cache_clear()  # a later round opens and matches the file as the first one does
        return find_network("transformer", (saved / FILE,), TRANSFORMER).component(BFLOAT16).build()

    def library(saved: Path, config: dict[str, int]) -> Any:
        return WanTransformer3DModel.from_pretrained(saved, torch_dtype=torch.bfloat16)

    def reference(saved: Path, config: dict[str, int]) -> Any:
        network = WanTransformer3DModel(**config).to(torch.bfloat16)
        network.load_state_dict(load_file(saved / FILE))
        return network

    def touched(work: Callable[..., Any]) -> Callable[[Any], Any]:
        """A mapped weight takes memory when it is first read, so every work has all pages of its weights read."""
        return lambda which: read_pages(work(*which))

    works = [touched(work) for work in (ours, library, reference)]
    mine, peer, old = peaks(*works, small=small, full=full)
    fast, slow, slowest = best(*(partial(work, full) for work in works))
    for name, memory, seconds in (("from_pretrained", peer, slow), ("build, then copy", old, slowest)):
        yield Row(
            f"loading {size / 1e6:.0f} MB, peak memory / file",
            name,
            f"{mine / size:.2f}",
            f"{memory / size:.2f}",
            mine / memory,
            1.10,
            held=mine / size,
        )
        yield Row("loading, time", name, f"{fast:.2f} s", f"{seconds:.2f} s", fast / seconds, 1.00)


def read_pages(network: Any) -> Any:
    """The network, a byte of every page of its weights read; nothing is copied."""
    for parameter in network.parameters():
        parameter.view(torch.uint8).view(-1)[:: mmap.PAGESIZE].sum()
    return network


def switching(folder: Path) -> Iterator[Row]:
    """A -> B -> A with room in RAM for both, against loading A again; the weights are read either way."""
    path = folder / "transformer" / FILE
    network = find_network("transformer", (path,), TRANSFORMER).component(FLOAT32)
    a, b = (replace(network, key=key) for key in "ab")
    budget = 3 * network.size_bytes
    cache = ComponentCache(TorchDevice("cpu"), device_budget_bytes=budget, ram_budget_bytes=budget)

    def use(component: Component) -> Callable[[], None]:
        def work() -> None:
            with cache.use(component) as module:
                read_pages(module)

        return work

    use(a)()
    use(b)()
    _, again, cold = best(use(b), use(a), lambda: read_pages(network.build()))
    yield Row(
        "switch back to a model that is still in RAM",
        "loading it again",
        f"{again:.4f} s",
        f"{cold:.2f} s",
        again / cold,
        0.20,
    )


def decoding(folder: Path) -> Iterator[Row]:
    """81 frames streamed from the decoder into the file, against decoding all and then writing."""
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1, dim_mult=[1, 1, 1, 1], z_dim=16).eval().requires_grad_(False)

    def streamed(latents: torch.Tensor) -> None:
        writer, seen = VideoWriter(folder / "streamed.mp4", fps=16, tags={}), hashlib.sha256()
        for pixels in decode_frames(vae, latents):
            writer.write(pixels)
            seen.update(pixels)
        writer.close()
        (folder / "streamed").write_bytes(seen.digest())

    def whole(latents: torch.Tensor) -> None:
        with torch.no_grad():
            video = vae.decode(denormalised(latents[None], vae.config), return_dict=False)[0]
        frames = ((video[0] + 1) / 2 * 255).to(torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()
        writer = VideoWriter(folder / "whole.mp4", fps=16, tags={})
        writer.write(frames)
        writer.close()
        (folder / "whole").write_bytes(hashlib.sha256(frames).digest())

    mine, peer = peaks(streamed, whole, small=torch.randn(16, 3, 16, 20), full=torch.randn(16, 21, 30, 52))
    same = (folder / "streamed").read_bytes() == (folder / "whole").read_bytes()
    yield Row(
        "decoding 81 frames of 416x240, extra peak memory",
        f"decode all, then write ({'same frames' if same else 'OTHER FRAMES'})",
        f"{mine / 1e6:.0f} MB",
        f"{peer / 1e6:.0f} MB",
        mine / peer,
        0.35,
    )


def writing(folder: Path) -> Iterator[Row]:
    """121 textured frames of 416x240 as H.264."""
    rows, columns = np.mgrid[:240, :416]
    texture = np.random.default_rng(0).integers(0, 60, (240, 416, 3))
    frames = np.stack([(texture + ((columns + rows) // 3 + 3 * t)[..., None]) % 256 for t in range(121)]).astype(
        np.uint8
    )

    def ours() -> None:
        writer = VideoWriter(folder / "ours.mp4", fps=16, tags={})
        writer.write(frames)
        writer.close()

    def theirs() -> None:
        with av.open(str(folder / "theirs.mp4"), "w") as container:
            options = {"crf": str(CRF), "preset": "medium", "rc-lookahead": str(LOOKAHEAD)}
            stream = container.add_stream("libx264", rate=16, options=options)
            stream.width, stream.height, stream.pix_fmt = 416, 240, "yuv420p"
            stream.codec_context.thread_count = 1
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))

    mine, peer = best(ours, theirs)
    yield Row(
        "writing 121 frames of 416x240",
        "PyAV by hand, same encoder and settings",
        f"{mine:.2f} s",
        f"{peer:.2f} s",
        mine / peer,
        1.05,
    )


def events(folder: Path) -> Iterator[Row]:
    """The steps of the starter with events, time left and previews, against the engine's bare generator."""
    spec = SPECS["phantom-wan"]
    bench = Session("cpu", store=Store())
    if bench.store.state(spec.name, spec.model("starter")).state != "bundled":
        return
    values = {
        "prompt": "a red star moves right",
        "references": [{"path": str(ROOT / "assets" / "examples" / "red_star.png")}],
        "seed": 1,
    }
    request, context = build_request(spec, values), bench.context(spec.name, spec.model("starter"))

    def steps(made: Iterator[Any], last: Callable[[Any], bool]) -> None:
        for item in made:
            if last(item):
                break
        made.close()

    def bare() -> None:
        steps(
            PhantomWan().generate(request, context),
            lambda item: isinstance(item, LatentStep) and item.index == item.total,
        )

    def told() -> None:
        made = run(spec, request, context, output_dir=folder, job_id="clip")
        steps(made, lambda event: event.type == "step" and event.index == event.total)

    bare()
    plain, full = best(bare, told)
    yield Row(
        "20 steps with events, time left, previews",
        "the bare loop",
        f"{full:.2f} s",
        f"{plain:.2f} s",
        full / plain,
        1.02,
    )


if __name__ == "__main__":
    main()
