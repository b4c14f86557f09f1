"""python -m tests.full_size phantom-wan: checkpoints of published size and names, loaded and stepped.

Writes random weights into a temporary folder (removed afterwards), loads them through the product's own path and runs
two denoising steps at a small size, then prints times and peak memory. Run by hand: 14B needs 30 GB of disk and, to
compute, as much memory as its weights take; with --by-block only as much as one block takes, for each block is read
from the mapped file when its turn comes and given back after it. `--dry-run` only counts what that would be.
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
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engines.bindweave import denoising as bindweave
from engines.bindweave.keys import BINDWEAVE
from engines.bindweave.spec import MAX_REFERENCES
from engines.loading.key_rules import Architecture
from engines.loading.memory_map import release_pages
from engines.loading.networks import Network, find_network
from engines.loading.shards import is_index
from engines.loading.store import Store
from engines.memory import activations
from engines.memory.budget import networks_bytes
from engines.memory.devices import TorchDevice
from engines.memory.precision import PRECISIONS
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.phantom_physics.checkpoint import SETTINGS, WEIGHTS, PhysicsSettings, architecture
from engines.phantom_physics.keys import VISUAL
from engines.phantom_physics.latents import tubelet_count
from engines.phantom_physics.sampling import Sampler, denoise, draw_noise
from engines.phantom_wan.engine import sample
from engines.registry import SPECS
from engines.runtime import attention
from engines.runtime.context import WorkerContext
from engines.sampling import guidance
from engines.sampling.denoise import unipc
from engines.wan.text import PUBLISHED_TEXT_LEN
from engines.wan.transformer_keys import TRANSFORMER

MANIFESTS = Path(__file__).parent / "manifests" / "files"
STEPS, REFERENCES, FRAMES, SIDE = 2, 1, 2, 8  # of latents: a clip of 5 frames, 64x64 pixels, and one picture

SHARDS = 14  # of a checkpoint whose files an index lists; how many there really are does not matter
# Engine -> its models, the first by default.
MODELS = {"phantom-wan": ("1.3B", "14B"), "phantom-physics": ("5B", "5B-physics"), "bindweave": ("14B",)}

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Part:
    """A network of a model: which published keys it has, and in which files."""

    role: str
    manifest: str
    paths: tuple[Path, ...]
    architecture: Architecture


def parts(engine: str, model: str, folder: Path, *, layers: int | None) -> list[Part]:
    """The networks that are written, loaded and stepped."""
    files = next(weights.files for weights in SPECS[engine].model(model).weights if weights.role == "transformer")
    if is_index(files[0]):
        files = tuple(f"shard-{number:05d}-of-{SHARDS:05d}.safetensors" for number in range(1, SHARDS + 1))
    paths = tuple(folder / name for name in files)
    if engine == "bindweave":
        return [Part("transformer", "bindweave_dit", paths, BINDWEAVE)]
    if engine == "phantom-wan":
        return [Part("transformer", f"phantom-wan-{model}", paths, TRANSFORMER)]
    found = [Part("transformer", "wan2.2-ti2v-5b", paths, VISUAL)]
    if model == "5B-physics":
        settings = PhysicsSettings() if layers is None else PhysicsSettings(num_layers=layers)
        (folder / SETTINGS).write_text(settings.model_dump_json(), encoding="utf-8")
        found.append(Part("physics", "phantom-physics-native", (folder / WEIGHTS,), architecture(settings)))
    return found


def main() -> None:
    """Reads the arguments, prints the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.full_size", description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=[*MODELS])
    parser.add_argument("--model", help="1.3B or 14B of phantom-wan, 5B or 5B-physics of phantom-physics")
    parser.add_argument("--by-block", action="store_true", help="hold one block of the transformer at a time")
    parser.add_argument("--memory-gb", type=float, metavar="X", help="use at most X GB of the CPU's, as a job would")
    parser.add_argument("--layers", type=int, help="keep only the first LAYERS blocks, where disk or memory is short")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"], help="precision to run in")
    parser.add_argument("--stored", default="bfloat16", choices=["bfloat16", "float32"], help="precision of the file")
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    parser.add_argument("--dry-run", action="store_true", help="count parameters, disk and memory, write nothing large")
    arguments = parser.parse_args()
    models = MODELS[arguments.engine]
    arguments.model = arguments.model or models[0]
    if arguments.model not in models:
        parser.error(f"{arguments.engine} has {' and '.join(models)}")
    if arguments.memory_gb and (arguments.engine != "phantom-wan" or arguments.device != "cpu"):
        parser.error("--memory-gb is measured for phantom-wan on the CPU")
    if arguments.by_block and (arguments.dtype != arguments.stored or arguments.device != "cpu"):
        parser.error("--by-block reads from the file itself: one precision for both, and the CPU")
    folder = Path(tempfile.mkdtemp(prefix="kinora-full-size-", dir=arguments.folder))
    try:
        found = parts(arguments.engine, arguments.model, folder, layers=arguments.layers)
        count(arguments, found) if arguments.dry_run else measure(arguments, found)
    finally:
        shutil.rmtree(folder)


def count(arguments: argparse.Namespace, found: list[Part]) -> None:
    """Prints what a run would take."""
    for part in found:
        numbers = sum(map(math.prod, published_shapes(part.manifest, arguments.layers).values()))
        disk, loaded = (numbers * getattr(torch, name).itemsize / 1e9 for name in (arguments.stored, arguments.dtype))
        print(f"{part.role:>11}: {numbers:,} numbers, {disk:.1f} GB on disk, {loaded:.1f} GB in {arguments.dtype}")


def measure(arguments: argparse.Namespace, found: list[Part]) -> None:
    """Writes, loads, steps, and prints a line each."""
    began = time.monotonic()
    # Another process writes, so that this one's peak is the loader's alone.
    for part in found:
        shapes = published_shapes(part.manifest, arguments.layers)
        told = (shapes, part.paths, arguments.stored)
        writer = multiprocessing.get_context("spawn").Process(target=write, args=told)
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit("the checkpoint could not be written")
    written = [path for part in found for path in part.paths]
    file_bytes = sum(path.stat().st_size for path in written)
    report("checkpoint", began, f"{file_bytes / 1e9:.2f} GB in {len(written)} files, {arguments.stored}")

    precision = PRECISIONS[arguments.dtype]
    gc.collect()
    before = peak_bytes()
    began = time.monotonic()
    networks = [find_network(part.role, part.paths, part.architecture) for part in found]
    report("described", began, f"peak memory +{(peak_bytes() - before) / 1e9:.2f} GB")
    if arguments.memory_gb:
        return within(arguments.memory_gb, networks[0])
    began = time.monotonic()
    modules = [network.component(precision).build() for network in networks]
    loaded = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    report("loaded", began, memory(before, file_bytes, loaded))
    began = time.monotonic()
    modules = [module.to(arguments.device) for module in modules]
    if arguments.by_block:
        for module in modules:
            take_turns(module, precision.storage)
    latents = STEPPERS[arguments.engine](*modules, device=arguments.device)
    finite = bool(torch.isfinite(latents).all())
    report(f"{STEPS} steps", began, f"{memory(before, file_bytes, loaded)}; result finite: {finite}")
    if torch.device(arguments.device).type == "cuda":
        print(f"  device peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


def within(memory_gb: float, network: Network) -> None:
    """Steps it through the product's own cache and planner, and prints the peak of this process against the number."""
    allowed = int(memory_gb * 1e9)
    cache = ComponentCache(
        TorchDevice("cpu"), device_budget_bytes=networks_bytes("cpu", allowed), ram_budget_bytes=allowed
    )
    began = time.monotonic()
    tokens = 3 * (FRAMES + REFERENCES) * SIDE * SIDE // 4  # of three passes in one batch
    context = WorkerContext(
        "phantom-wan",
        SPECS["phantom-wan"].model("1.3B"),
        cache=cache,
        store=Store(),
        remembered=Remembered(limit_bytes=0),
        attention=attention.choose(attention.AUTO, torch.device("cpu")),
    )
    working = partial(_pass_bytes, network.config, tokens)
    planned = network.plan(context, {"": working})
    with cache.use(planned.component, working_bytes=planned.working_bytes) as module:
        latents = step(module, device="cpu")
    report("planned", began, f"{planned.plan.reason}; result finite: {bool(torch.isfinite(latents).all())}")
    peak = peak_bytes()
    print(f"  peak of the whole process {peak / 1e9:.2f} GB of {memory_gb:g} GB stated")
    if peak > allowed:
        raise SystemExit("it was exceeded")


def _pass_bytes(config: Any, tokens: int, itemsize: int) -> int:
    return activations.wan_transformer(config, tokens=tokens, itemsize=itemsize)


def published_shapes(manifest: str, layers: int | None) -> Shapes:
    """{published key: shape}, of the first `layers` blocks if given."""
    shapes: Shapes = json.loads((MANIFESTS / f"{manifest}.json").read_text(encoding="utf-8"))["keys"]
    if layers is None:
        return shapes
    blocks = {key: re.match(r"(?:physics\.)?(?:blocks|coupling)\.(\d+)\.", key) for key in shapes}
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


def step(network: torch.nn.Module, *, device: str) -> torch.Tensor:
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


@torch.no_grad()
def joint_step(visual: torch.nn.Module, branch: torch.nn.Module | None = None, *, device: str) -> torch.Tensor:
    """Two steps of Wan 2.2's loop on random inputs, with the physics branch if there is one -> visual latents."""
    felt = None if branch is None else (branch.config.in_channels, tubelet_count(4 * FRAMES - 3), SIDE, SIDE)
    noise = draw_noise((visual.config.in_channels, FRAMES, SIDE, SIDE), felt, seed=0).to(torch.device(device))
    text = torch.randn(2, PUBLISHED_TEXT_LEN, visual.config.text_dim, generator=torch.Generator().manual_seed(1))
    with nullcontext() if branch is None else branch.joined(visual):
        sampler = Sampler(
            visual,
            branch,
            conditions={"cond": text[0], "uncond": text[1]},
            weights=guidance.classifier_free(5.0),
            batched=True,
        )
        *_, last = denoise(sampler, noise, given=None, scheduler=lambda: unipc(STEPS, shift=5.0))
    return last.latents.visual


@torch.no_grad()
def bindweave_step(network: torch.nn.Module, *, device: str) -> torch.Tensor:
    """Two steps of BindWeave's loop on random inputs -> latents; the passes read texts of different length."""
    generator, config = torch.Generator().manual_seed(0), network.config

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    readings = {
        name: bindweave.Reading(draw(tokens, config.mllm_dim), draw(PUBLISHED_TEXT_LEN, config.text_dim))
        for name, tokens in (("cond", 26), ("uncond", 32))
    }
    *_, last = bindweave.sample(
        network,
        noise=draw(config.out_channels, FRAMES, SIDE, SIDE),
        condition=draw(4 + config.out_channels, MAX_REFERENCES + FRAMES, SIDE, SIDE),
        clip=draw(MAX_REFERENCES * config.clip_token_len, config.image_dim),
        readings=readings,
        weights=guidance.text_weights(5.0),
        scheduler=unipc(STEPS, shift=3.0),
    )
    return last.latents


STEPPERS = {"phantom-wan": step, "phantom-physics": joint_step, "bindweave": bindweave_step}


def take_turns(module: torch.nn.Module, stored: torch.dtype) -> None:
    """Give the pages of every block back after it has computed; the next pass reads them from the file again."""

    def release(block: torch.nn.Module, *_: object) -> None:
        for parameter in block.parameters():
            if parameter.dtype == stored:  # the others were converted, and are nowhere else
                release_pages(parameter)

    for block in module.blocks:
        block.register_forward_hook(release)


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
