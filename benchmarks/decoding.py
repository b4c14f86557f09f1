"""python -m benchmarks.decoding: encoding beside decoding, and Pyramid Flow's decoding against the authors' own code.

Random weights, one thread for the networks, both ways in turn in one process, every second round in the opposite order;
ratios are medians of the rounds' own ratios: below 1 is better. The authors' code is not part of this project:
`--peer FOLDER` names a checkout of jy0205/Pyramid-Flow, read as it stands; without one its row is left out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from benchmarks.rounds import Judged, in_rounds, paired
from engines.media.background_writer import BackgroundWriter
from engines.media.video import VideoWriter, read_frames
from engines.pyramid_flow.coding import TILE, StreamingDecoder, to_levels
from engines.pyramid_flow.vae import CausalVideoVAE
from engines.wan.vae import decode_frames

ROUNDS = 5
WAN = {"base_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 1, 1, 1], "z_dim": 16}
CLIP = (16, 21, 12, 20)  # latents: 81 frames of 160x96
LEFT = 0.5  # of the encoding, when decoding has ended: x264 holds back LOOKAHEAD frames, a quarter of this clip
# (widths, latents [C,F,h,w], side of a tile in pixels): decoded whole, and cut into tiles.
PYRAMIDS = (((32, 64, 128, 128), (16, 3, 8, 8), TILE), ((16, 32, 64, 64), (16, 3, 6, 12), 64))
LAYOUT = (True, True, True, False)  # which levels double space, and time


@dataclass(frozen=True)
class Line(Judged):
    """A comparison: medians of what each way took, and `figure`, that of the rounds' ratios."""

    what: str
    ours: float
    other: float
    figure: float
    detail: str
    target: float | None = None

    def __str__(self) -> str:
        told = f"{self.ours:.2f} s | {self.other:.2f} s | {self.figure:.2f} | {self.goal}"
        return f"| {self.what} | {told} | {self.detail} |"


def in_turn(
    ours: Callable[[], Any], other: Callable[[], Any], clock: Callable[[], float], rounds: int
) -> tuple[float, float, float]:
    """Seconds that each takes by a clock, and their ratio: medians of the rounds, after one that is not counted."""
    a, b = (taken[1:] for taken in in_rounds(ours, other, rounds=rounds + 1, clock=clock))
    return median(a), median(b), paired(a, b)


class Timed(VideoWriter):
    """Counts the processor's seconds that encoding takes, whichever thread it is done in."""

    seconds = 0.0

    def write(self, pixels: np.ndarray) -> None:
        began = time.thread_time()
        super().write(pixels)
        self.seconds += time.thread_time() - began

    def close(self) -> None:
        began = time.thread_time()
        super().close()
        self.seconds += time.thread_time() - began


def encoding(folder: Path, rounds: int = ROUNDS) -> Iterator[Line]:
    """A clip decoded and written, its frames encoded beside the decoding, against one after the other."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**WAN).eval().requires_grad_(False)
    latents = torch.randn(CLIP)
    left: list[tuple[float, float]] = []

    def beside() -> None:
        timed = Timed(folder / "beside.mp4", fps=16, tags={})
        writer = BackgroundWriter(timed)
        for pixels in decode_frames(vae, latents):
            writer.write(pixels)
        encoded = timed.seconds
        writer.close()
        left.append((timed.seconds - encoded, timed.seconds))

    def after() -> None:
        writer = VideoWriter(folder / "after.mp4", fps=16, tags={})
        for pixels in list(decode_frames(vae, latents)):
            writer.write(pixels)
        writer.close()

    ours, other, ratio = in_turn(beside, after, time.perf_counter, rounds)
    apart = max(
        int(np.abs(a.astype(int) - b).max())
        for a, b in zip(read_frames(folder / "beside.mp4"), read_frames(folder / "after.mp4"), strict=True)
    )
    size = f"{4 * CLIP[1] - 3} frames of {8 * CLIP[3]}x{8 * CLIP[2]}"
    a, b, share = (median(column) for column in zip(*((x, y, x / y) for x, y in left[1:]), strict=True))
    told = f"the processor's seconds of encoding: what is left when decoding ends, and all; {size}"
    yield Line("encoding left for after the decoding", a, b, share, told, LEFT)
    told = f"on the clock on the wall, so only a free core shows it; {apart} levels apart"
    yield Line("a clip decoded and encoded, beside against after", ours, other, ratio, told)


def pyramid(peer: Path, rounds: int = ROUNDS) -> Iterator[Line]:
    """Latents to frames, unit by unit as they come, against the authors' decoder with the same weights and tiles."""
    for widths, shape, tile in PYRAMIDS:
        torch.manual_seed(0)
        ours = CausalVideoVAE(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            encoder_norm_num_groups=8,
            decoder_norm_num_groups=8,
        )
        ours.eval().requires_grad_(False)
        theirs = authors_vae(peer, ours)
        latents = torch.randn(1, *shape)
        made: dict[str, np.ndarray] = {}

        def product(vae: Any = ours, latents: torch.Tensor = latents, tile: int = tile, made: Any = made) -> None:
            decoder = StreamingDecoder(tile=tile)
            made["ours"] = np.concatenate([to_levels(decoder(vae, unit)) for unit in latents.split(1, dim=2)])

        @torch.no_grad()
        def authors(vae: Any = theirs, latents: torch.Tensor = latents, tile: int = tile, made: Any = made) -> None:
            video = vae.decode(latents, temporal_chunk=True, window_size=1, tile_sample_min_size=tile).sample
            levels = video.mul(127.5).add(127.5).clamp(0, 255).byte()
            made["theirs"] = levels[0].permute(1, 2, 3, 0).contiguous().numpy()

        figures = in_turn(product, authors, time.process_time, rounds)
        apart = int(np.abs(made["ours"].astype(int) - made["theirs"]).max())
        frames, high, wide = made["ours"].shape[:3]
        cut = f"tiles of {tile}" if max(wide, high) > tile else "one tile"
        told = f"the processor's seconds; {frames} frames of {wide}x{high}, {cut}, {widths[0]} to {widths[-1]} channels"
        yield Line("Pyramid Flow's decoding, against its authors'", *figures, f"{told}; {apart} levels apart", 1.0)


def authors_vae(checkout: Path, ours: CausalVideoVAE) -> Any:
    """The autoencoder of the authors' code, with the weights of ours; the published way of decoding is tiled."""
    module = authors_module(checkout)
    config = {name: ours.config[name] for name in ours.config if not name.startswith("_")}
    with redirect_stdout(StringIO()):  # it speaks while it is built
        vae = module.CausalVideoVAE(**{name: value for name, value in config.items() if name != "encoder_in_channels"})
    vae.load_state_dict(ours.state_dict())
    vae.enable_tiling()
    return vae.eval().requires_grad_(False)


def authors_module(checkout: Path) -> ModuleType:
    """video_vae/modeling_causal_vae.py of a checkout.

    Its package imports losses, and its helpers timm, for training alone: neither is needed here, nor installed.
    """
    if not (checkout / "video_vae" / "modeling_causal_vae.py").is_file():
        raise SystemExit(
            f"{checkout} is no checkout of jy0205/Pyramid-Flow: it has no video_vae/modeling_causal_vae.py."
        )
    package = ModuleType("video_vae")
    package.__path__ = [str(checkout / "video_vae")]
    unused = {name: ModuleType(name) for name in ("timm", "timm.models", "timm.models.hub", "timm.models.layers")}
    unused["timm.models.layers"].__dict__.update(
        drop_path=None, to_2tuple=None, trunc_normal_=torch.nn.init.trunc_normal_
    )
    sys.modules.update({"video_vae": package} | {n: m for n, m in unused.items() if n not in sys.modules})
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module("video_vae.modeling_causal_vae")
    finally:
        sys.path.remove(str(checkout))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a figure is above its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a checkout of jy0205/Pyramid-Flow")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often both ways are taken")
    told = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| what | ours | other | ratio | target | |\n| --- | --- | --- | --- | --- | --- |")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for line in chain(encoding(Path(folder), told.rounds), pyramid(told.peer, told.rounds) if told.peer else ()):
            print(line, flush=True)
            missed += line.missed
    if told.peer is None:
        print("Pyramid Flow's decoding was left out: name a checkout of its authors' code with --peer.")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
