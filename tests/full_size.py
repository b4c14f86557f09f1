"""python -m tests.full_size phantom-wan: a checkpoint of published size and names, loaded and stepped.

Writes random weights into a temporary folder (removed afterwards), loads them through the product's own path and runs
two denoising steps at a small size, then prints times and peak memory. Run by hand: 14B needs 30 GB of disk and, to
compute, as much memory as its weights take.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import re
import resource
import shutil
import tempfile
import time
from pathlib import Path

import torch

from engines.loading.networks import find_network
from engines.memory.precision import PRECISIONS
from engines.phantom_wan.engine import sample
from engines.registry import SPECS
from engines.sampling import guidance
from engines.sampling.denoise import unipc
from engines.wan.text import PUBLISHED_TEXT_LEN
from engines.wan.transformer_keys import TRANSFORMER

MANIFESTS = Path(__file__).parent / "manifests" / "files"
STEPS, REFERENCES, FRAMES, SIDE = 2, 1, 2, 8  # of latents: a clip of 5 frames, 64x64 pixels, and one picture

Shapes = dict[str, list[int]]


def main() -> None:
    """Reads the arguments, prints the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.full_size", description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["phantom-wan"])
    parser.add_argument("--model", default="1.3B", choices=["1.3B", "14B"])
    parser.add_argument("--layers", type=int, help="keep only the first LAYERS blocks, where disk or memory is short")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"], help="precision to run in")
    parser.add_argument("--stored", default="bfloat16", choices=["bfloat16", "float32"], help="precision of the file")
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kinora-full-size-", dir=arguments.folder))
    try:
        measure(arguments, folder)
    finally:
        shutil.rmtree(folder)


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Writes, loads, steps, and prints a line each."""
    (weights,) = [w for w in SPECS[arguments.engine].model(arguments.model).weights if w.role == "transformer"]
    shapes = published_shapes(f"phantom-wan-{arguments.model}", arguments.layers)
    paths = tuple(folder / name for name in weights.files)
    began = time.monotonic()
    # Another process writes, so that this one's peak is the loader's alone.
    writer = multiprocessing.get_context("spawn").Process(target=write, args=(shapes, paths, arguments.stored))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit("the checkpoint could not be written")
    file_bytes = sum(path.stat().st_size for path in paths)
    report("checkpoint", began, f"{file_bytes / 1e9:.2f} GB in {len(paths)} files, {arguments.stored}")

    precision = PRECISIONS[arguments.dtype]
    gc.collect()
    before = peak_bytes()
    began = time.monotonic()
    network = find_network("transformer", paths, TRANSFORMER)
    report("described", began, f"peak memory +{(peak_bytes() - before) / 1e9:.2f} GB")
    began = time.monotonic()
    module = network.component(precision).build()
    loaded = sum(p.numel() * p.element_size() for p in module.parameters())
    report("loaded", began, memory(before, file_bytes, loaded))
    began = time.monotonic()
    module = module.to(arguments.device)
    latents = step(module, arguments.device)
    finite = bool(torch.isfinite(latents).all())
    report(f"{STEPS} steps", began, f"{memory(before, file_bytes, loaded)}; result finite: {finite}")
    if torch.device(arguments.device).type == "cuda":
        print(f"  device peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


def published_shapes(manifest: str, layers: int | None) -> Shapes:
    """{published key: shape}, of the first `layers` blocks if given."""
    shapes: Shapes = json.loads((MANIFESTS / f"{manifest}.json").read_text(encoding="utf-8"))["keys"]
    if layers is None:
        return shapes
    blocks = {key: re.match(r"blocks\.(\d+)\.", key) for key in shapes}
    return {key: shape for key, shape in shapes.items() if not blocks[key] or int(blocks[key][1]) < layers}


def write(shapes: Shapes, paths: tuple[Path, ...], dtype_name: str) -> None:
    """Random weights under the published keys: one pickle, or safetensors shards of about equal size."""
    torch.set_num_threads(1)
    dtype = getattr(torch, dtype_name)
    torch.manual_seed(0)
    if paths[0].suffix == ".pth":
        torch.save({key: random_weight(shape, dtype) for key, shape in shapes.items()}, paths[0])
        return
    sizes = {key: math.prod(shape) * dtype.itemsize for key, shape in shapes.items()}
    share, written = sum(sizes.values()) / len(paths), 0
    shards: list[Shapes] = [{} for _ in paths]
    for key, shape in shapes.items():
        shards[min(int(written / share), len(paths) - 1)][key] = shape
        written += sizes[key]
    for path, shard in zip(paths, shards, strict=True):
        header, offset = {}, 0
        for key, shape in shard.items():
            end = offset + sizes[key]
            name = {"bfloat16": "BF16", "float32": "F32"}[dtype_name]
            header[key] = {"dtype": name, "shape": shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for shape in shard.values():
                file.write(random_weight(shape, dtype).view(torch.uint8).numpy().tobytes())


def random_weight(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    """Flat for vectors, scaled by the fan-in for matrices; one block of numbers repeated, to be fast."""
    count = math.prod(shape)
    block = torch.randn(min(count, 2**20)) * (math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02)
    return block.to(dtype).repeat(-(-count // len(block)))[:count].clone().reshape(shape)


def step(network: torch.nn.Module, device: str) -> torch.Tensor:
    """Two steps of Phantom's loop on random inputs -> latents."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    channels, width = network.config.in_channels, network.config.text_dim
    *_, last = sample(
        network,
        noise=draw(channels, FRAMES + REFERENCES, SIDE, SIDE),
        references=draw(channels, REFERENCES, SIDE, SIDE),
        prompt=draw(PUBLISHED_TEXT_LEN, width),
        negative=draw(PUBLISHED_TEXT_LEN, width),
        weights=guidance.subject(5.0, 7.5),
        scheduler=unipc(STEPS, shift=5.0),
        batched=True,
    )
    return last.latents


def peak_bytes() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(before: int, file_bytes: int, loaded: int) -> str:
    """Peak memory above the bare libraries, against the file and against the loaded weights."""
    used = peak_bytes() - before
    return (
        f"peak memory +{used / 1e9:.2f} GB = {used / file_bytes:.2f} x file = "
        f"{used / loaded:.2f} x loaded weights ({loaded / 1e9:.2f} GB)"
    )


def report(what: str, began: float, figures: str) -> None:
    """One line: what, how long, figures."""
    print(f"{what:>10} {time.monotonic() - began:7.1f} s  {figures}", flush=True)


if __name__ == "__main__":
    main()
