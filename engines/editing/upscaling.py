"""Larger frames by a network of the ESRGAN family that somebody has, opened by the package spandrel, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.editing.request import Upscale
from engines.editing.source import Made, Source
from engines.errors import IncompatibleCheckpoint, MediaError, StudioError
from engines.media.files import shown_name
from engines.memory.planning import Way, plan
from engines.types import Component

TILES = (512, 256, 128, 64)
_CHOOSE = "Choose a file of the ESRGAN family."
_OVERLAP = 16
_MOST_SIDE = 8192
# Features that a network of the family holds for each pixel of a tile, and for each one that it makes.
_FEATURES, _MADE_FEATURES = 512, 192


def upscale(asked: Upscale, source: Source, session: Any) -> Made:
    """Every frame enlarged; the network is kept warm under the rules of all networks of the device."""
    if asked.network is None:
        raise MediaError("Choose the file of an upscaling network.")
    network, warm = opened(asked.network.path), session()
    scale = int(network.scale)
    if max(source.size) * scale > _MOST_SIDE:
        raise MediaError(
            f"{source.size[0]} × {source.size[1]} pixels become {scale} times as wide: at most {_MOST_SIDE:,} fit."
        )
    device = warm.device.torch_device
    half = device.type == "cuda" and network.supports_half
    dtype = torch.float16 if half else torch.float32
    module = network.model.to(dtype)
    status = asked.network.path.stat()
    component = Component(
        key=f"upscaler/{asked.network.path}/{status.st_size}/{status.st_mtime_ns}/{dtype}",
        build=lambda: module,
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()),
        role="upscaler",
        precision=str(dtype).removeprefix("torch."),
    )
    needs = {tile: _working_bytes(tile, scale, dtype) for tile in TILES if tile < 2 * max(source.size)} or {
        TILES[-1]: _working_bytes(TILES[-1], scale, dtype)
    }
    room = warm.cache.room()
    ways = {tile: Way(component.precision, component.size_bytes, need) for tile, need in needs.items()}
    tile = next((tile for tile, way in ways.items() if plan([way], room).possible), min(needs))

    def frames() -> Iterator[np.ndarray]:
        with warm.cache.use(component, working_bytes=needs[tile]) as resident, torch.inference_mode():
            for frame in source.frames():
                yield enlarged(frame, resident, scale=scale, tile=tile, device=device, dtype=dtype)

    note = f"Enlarged {scale} times by {shown_name(asked.network.path)} ({network.architecture.name})."
    return Made(frames(), source.count, source.fps, source.sound(), [note])


def opened(path: Path) -> Any:
    """The network in a file; nothing of it is run as code.

    Raises:
        StudioError: the packages are missing.
        IncompatibleCheckpoint: it is no network that enlarges RGB pictures.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError:
        raise StudioError(
            "Enlarging with a network needs two more packages:", hint="pip install spandrel torchvision."
        ) from None
    name = shown_name(path)
    try:
        network = ModelLoader("cpu").load_from_state_dict(_tensors(path))
    except (UnsupportedModelError, ValueError, RuntimeError, KeyError, OSError, EOFError, TypeError) as error:
        raise IncompatibleCheckpoint(
            f"{name} is not a network that enlarges pictures, or it is damaged.",
            hint=_CHOOSE,
        ) from error
    rgb = isinstance(network, ImageModelDescriptor) and network.input_channels == network.output_channels == 3
    if not rgb or network.scale < 2:
        raise IncompatibleCheckpoint(f"{name} does not enlarge RGB pictures.", hint=_CHOOSE)
    return network.eval()


def _tensors(path: Path) -> dict[str, Any]:
    """What the file holds; PyTorch's own files are read as data alone."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle knows no bounds in what it raises
        raise ValueError("no checkpoint") from error
    if not isinstance(found, dict):
        raise ValueError("no checkpoint")
    return found


def enlarged(
    frame: np.ndarray, network: Any, *, scale: int, tile: int, device: torch.device, dtype: torch.dtype
) -> np.ndarray:
    """A frame, uint8 [H,W,3], `scale` times as large; tiles see a little of their neighbours, so no seams are left."""
    height, width = frame.shape[:2]
    made = np.empty((height * scale, width * scale, 3), np.uint8)
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].to(device, dtype) / 255
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, _OVERLAP), min(left, _OVERLAP)
            bottom, right = min(height, top + tile), min(width, left + tile)
            seen = pixels[:, :, top - above : bottom + _OVERLAP, left - before : right + _OVERLAP]
            piece = network(seen)[:, :, above * scale :, before * scale :]
            piece = piece[:, :, : (bottom - top) * scale, : (right - left) * scale]
            made[top * scale : bottom * scale, left * scale : right * scale] = (
                (piece[0].float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            )
    return made


def _working_bytes(tile: int, scale: int, dtype: torch.dtype) -> int:
    pixels = (tile + 2 * _OVERLAP) ** 2
    return pixels * dtype.itemsize * (_FEATURES + scale**2 * _MADE_FEATURES)
