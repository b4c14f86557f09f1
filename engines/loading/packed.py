"""Weights that stay as small as their file has them: a layer keeps them packed and unpacks them while it computes.

Known are GGUF's blocks and 8-bit floats with or without a scale, as ComfyUI repacks them. Only matrices inside of a
network's blocks stay packed: they are nearly all of it, and the rest decides more of its numbers than of its size.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from engines.errors import IncompatibleCheckpoint
from engines.wording import both, printable

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
# What stands beside a weight that has a scale: the older repacks' name of the scale, the newer one's, and what is not
# used: activations are not held in 8 bits here.
_SCALES = ("scale_weight", "weight_scale")
_UNUSED = ("input_scale", "scale_input", "comfy_quant")
_MARKER = "scaled_fp8"


@dataclass(frozen=True, eq=False)
class Packing:
    """How one tensor of a file is packed.

    Attributes:
        form: for people: "GGUF Q8_0", "float8".
        shape: of its numbers.
        unpack: (packed, shape) -> its numbers in float32, or in 8-bit floats for lack of anything to do.
        scale: by which its numbers are multiplied: one for all, or one for each row; None for none.
    """

    form: str
    shape: tuple[int, ...]
    unpack: Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]
    scale: torch.Tensor | None = None

    def numbers(self, packed: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None) -> torch.Tensor:
        """The numbers of `packed`, in `dtype`."""
        numbers = self.unpack(packed, self.shape)
        if scale is not None:  # one for all, or one for each row
            numbers = numbers.float() * scale.float().view(-1, *[1] * (numbers.dim() - 1))
        return numbers.to(dtype)

    def rows(self, packed: torch.Tensor, part: int, parts: int) -> tuple[torch.Tensor, Packing]:
        """Row block `part` of `parts` equal ones."""
        scale = self.scale.chunk(parts)[part] if self.scale is not None and self.scale.numel() > 1 else self.scale
        inner = replace(self, shape=(self.shape[0] // parts, *self.shape[1:]), scale=scale)
        return packed.reshape(self.shape[0], -1).chunk(parts)[part], inner


class PackedLinear(torch.nn.Linear):
    """A layer with a matrix that keeps its weights packed. Its parameters are what it holds in memory."""

    def __init__(self, packed: torch.Tensor, packing: Packing, bias: torch.nn.Parameter | None) -> None:
        torch.nn.Module.__init__(self)
        self.out_features, self.in_features = packing.shape
        self.packing = replace(packing, scale=None)
        self.packed = torch.nn.Parameter(packed, requires_grad=False)
        self.scale = None if packing.scale is None else torch.nn.Parameter(packing.scale.float(), requires_grad=False)
        self.bias = bias
        self.compute = torch.float32

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """Nothing but what callers ask of a weight: where it lies and what it computes in."""
        return torch.empty(0, dtype=self.compute, device=self.packed.device)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As any Linear, in the precision of its input."""
        weight = self.packing.numbers(self.packed, input.dtype, self.scale)
        return torch.nn.functional.linear(input, weight, None if self.bias is None else self.bias.to(input.dtype))


# The parameters of a PackedLinear that no precision changes.
AS_STORED = ("packed", "scale")


def as_stored(network: torch.nn.Module) -> set[str]:
    """Names of the parameters that are held as they are, whatever the network computes in."""
    layers = ((name, module) for name, module in network.named_modules() if isinstance(module, PackedLinear))
    return {f"{name}.{part}" for name, module in layers for part in AS_STORED if getattr(module, part) is not None}


def layer_shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's parameters by name, packed ones as the numbers that they are."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, PackedLinear):
            for part in AS_STORED:
                shapes.pop(f"{name}.{part}", None)
            shapes[f"{name}.weight"] = (module.out_features, module.in_features)
    return shapes


def form_of(packings: Mapping[str, tuple[torch.Tensor, Packing]]) -> str:
    """What the weights of a network are held in, for people: the two forms that most of them are in; "" for none."""
    sizes: Counter[str] = Counter()
    for packed, packing in packings.values():
        sizes[packing.form] += packed.nbytes
    names = [name for name, _ in sizes.most_common(2)]
    family = names[0].rpartition(" ")[0] if names else ""
    return both([names[0], *(name.removeprefix(f"{family} ") for name in names[1:])]) if names else ""


def as_they_are(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers that need no more than their scale."""
    return packed.reshape(shape)


def eight_bit(name: str, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Packing]]:
    """The tensors of a file without what only scales others, and how those in 8-bit floats are packed.

    Args:
        name: what to call the file before people.

    Raises:
        IncompatibleCheckpoint: a scale is of no kind that is known.
    """
    floats = {key for key, tensor in tensors.items() if tensor.dtype in FLOAT8 and tensor.dim() > 1}
    beside = {key: (layer, part) for key in tensors for layer, dot, part in (key.rpartition("."),) if dot}
    of = {key: f"{layer}.weight" for key, (layer, part) in beside.items() if part in (*_SCALES, *_UNUSED)}
    left_out = {key for key, weight in of.items() if weight in floats}
    left_out |= {key for key in tensors if key.rpartition(".")[2] == _MARKER and floats}
    packings = {key: Packing("float8", tuple(tensors[key].shape), as_they_are) for key in floats}
    for key, weight in of.items():
        if weight not in floats:
            continue
        if beside[key][1] == "comfy_quant":
            _check_format(name, tensors[key])
        if beside[key][1] in _SCALES:
            scale = tensors[key]
            rows = tensors[weight].shape[0]
            if not scale.dtype.is_floating_point or scale.numel() not in (1, rows):
                raise IncompatibleCheckpoint(
                    f"{name} holds 8-bit weights scaled in blocks ({printable(key)}), which cannot be used yet.",
                    hint="Use the file in bfloat16, or in 8-bit floats with one scale for a layer.",
                )
            packings[weight] = replace(packings[weight], form="scaled float8", scale=scale.reshape(-1))
    return {key: tensor for key, tensor in tensors.items() if key not in left_out}, packings


def _check_format(name: str, told: torch.Tensor) -> None:
    """Raises IncompatibleCheckpoint where a layer says that it is more than 8-bit floats with a scale."""
    try:
        said: Any = json.loads(bytes(told.to(torch.uint8).flatten()[:4096].tolist()))
        kind = said.get("format", "")
    except (ValueError, AttributeError, RecursionError):
        kind = "an unknown format"
    if not str(kind).startswith("float8"):
        raise IncompatibleCheckpoint(
            f"{name} holds weights in {printable(str(kind))}, which cannot be used yet.",
            hint="Use the file in bfloat16 or in scaled 8-bit floats.",
        )


def packed_layers(network: torch.nn.Module) -> Iterator[tuple[str, PackedLinear]]:
    """The layers of a network whose weights are packed, by name."""
    for name, module in network.named_modules():
        if isinstance(module, PackedLinear):
            yield name, module
