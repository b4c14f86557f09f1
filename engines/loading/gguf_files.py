"""GGUF files opened: their tensors mapped, and how those that are quantised are packed.

The package gguf reads the header and diffusers has the arithmetic of every kind; both are imported when there is such a
file. Imports no torch before that, because files are looked at before anything is queued.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engines.errors import IncompatibleCheckpoint, StudioError
from engines.wording import printable

if TYPE_CHECKING:
    import torch

    from engines.loading.packed import Packing

MAGIC = b"GGUF"
INSTALL = "pip install -r requirements-quantised.txt"
# Where a converter notes the shape of a tensor that it had to arrange otherwise.
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
_PLAIN = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_MOST_KEYS = 2**16
_AGAIN = "Download the file again."


class _Entry(NamedTuple):
    """A tensor of the file: its kind, the shape of its numbers, and where its bytes are."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        architecture: which network it says it is: "wan".
        tensors: by key.
        facts: what this project wrote into it.
    """

    architecture: str
    tensors: dict[str, _Entry]
    facts: dict[str, Any]


def header(path: Path, *, facts_key: str = "") -> Header:
    """The header of a GGUF file.

    Raises:
        IncompatibleCheckpoint: the file is damaged or cut short, or the package that reads it is missing.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise IncompatibleCheckpoint(
            f"{path.name} is a GGUF file, which needs the package gguf.", hint=f"Install it: {INSTALL}"
        ) from error
    with _damage(path):
        _check_counts(path)
        reader = _opened(GGUFReader, path)
        fields = reader.fields
        tensors = {}
        for tensor in reader.tensors:
            shape = tuple(int(side) for side in reversed(tensor.shape.tolist()))
            noted = fields.get(f"{_ORIGINAL_SHAPE}{tensor.name}")
            if noted is not None:
                shape = tuple(int(noted.parts[index][0]) for index in noted.data)
            entry = _Entry(tensor.tensor_type.name, shape, int(tensor.data_offset), int(tensor.n_bytes))
            tensors[tensor.name] = entry
        said = fields.get("general.architecture")
        noted = fields.get(facts_key)
        facts = json.loads(bytes(noted.parts[-1])) if noted is not None else {}
        if not tensors:
            raise IncompatibleCheckpoint(f"{path.name} holds no tensors.", hint="Choose the model's weights.")
        architecture = bytes(said.parts[-1]).decode(errors="replace") if said is not None else ""
        return Header(architecture, tensors, facts if isinstance(facts, dict) else {})


def check_length(path: Path) -> None:
    """Raises IncompatibleCheckpoint for a file that is damaged or cut short."""
    header(path)


def read(path: Path, *, facts_key: str) -> tuple[dict[str, torch.Tensor], dict[str, Packing], dict[str, Any]]:
    """Views of the file's tensors, how the quantised ones are packed, and what this project wrote into it.

    Raises:
        IncompatibleCheckpoint: as `header`, or a tensor is quantised in a way that cannot be computed with.
    """
    import torch

    from engines.loading.packed import Packing

    found = header(path, facts_key=facts_key)
    whole = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    tensors: dict[str, torch.Tensor] = {}
    packings: dict[str, Packing] = {}
    for key, (kind, shape, offset, size) in found.tensors.items():
        stored = whole[offset : offset + size]
        with _damage(path):
            if kind in _PLAIN:
                tensors[key] = stored.view(getattr(torch, _PLAIN[kind])).view(shape)
                continue
            tensors[key] = stored.view(shape[0], -1)
        packings[key] = Packing(f"GGUF {kind}", shape, _unpacking(path, key, kind))
    return tensors, packings, found.facts


def _unpacking(path: Path, key: str, kind: str) -> Any:
    """What turns the bytes of a kind into numbers; raises IncompatibleCheckpoint for one that is not known."""
    import gguf
    from diffusers.quantizers.gguf.utils import dequantize_functions

    function = dequantize_functions.get(gguf.GGMLQuantizationType[kind])
    if function is None:
        raise IncompatibleCheckpoint(
            f"{path.name} holds weights in {kind} ({printable(key)}), which cannot be used.",
            hint="Use the file in Q8_0, Q6_K, Q5_K, Q4_K, Q3_K or Q2_K.",
        )
    return partial(_unpack, function, *gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]])


def _unpack(
    function: Any, block_size: int, type_size: int, packed: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor:
    """Blocks of bytes -> float32 numbers; a block is `block_size` numbers in `type_size` bytes."""
    import torch

    return function(packed.reshape(-1, type_size), block_size, type_size, dtype=torch.float32).reshape(shape)


def _opened(reader: Any, path: Path) -> Any:
    """The reader of a file; raises IncompatibleCheckpoint where its header ends beyond the file's end."""
    try:
        return reader(path)
    except (ValueError, IndexError) as error:
        if "reshape" in str(error):  # there are fewer bytes than its header counts
            raise IncompatibleCheckpoint(f"{path.name} is cut short.", hint=_AGAIN) from error
        raise


def _check_counts(path: Path) -> None:
    """Raises ValueError for a header that would take long to read."""
    with path.open("rb") as file:
        start = file.read(24)
    tensors, keys = (int.from_bytes(start[place : place + 8], "little") for place in (8, 16))
    if len(start) < 24 or tensors > _MOST_KEYS or keys > _MOST_KEYS:
        raise ValueError("more than a network has")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever the readers raise of an odd file, in a sentence."""
    try:
        yield
    except (StudioError, MemoryError):
        raise
    except Exception as error:
        raise IncompatibleCheckpoint(
            f"{path.name} cannot be read: it is truncated, damaged or no checkpoint.", hint=_AGAIN
        ) from error
