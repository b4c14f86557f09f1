"""How FlashI2V's tensors are named: by the released weights (npu branch), by the main branch, and by this project.

Source: MindSpeed-MM's flashi2v_dit.py for the released names, flashi2v/modules/flashi2v.py for main's.
"""

from __future__ import annotations

from typing import Any

from engines.flashi2v.network import FlashI2VTransformer3DModel
from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes
from engines.wan.transformer_keys import DIFFUSERS, MINDSPEED, NATIVE, TRANSFORMER, configure

# Either of the picture's two paths: a file with one of them is told what it lacks, one with none is another network.
_PICTURE = r"(patch_embedding\.)?(learnable_proj|fourier_embedding)\..*"
_PATHS = (
    (r"^fourier_embedding\.", "patch_embedding.fourier_embedding."),
    (r"^learnable_proj\.proj\.", "learnable_proj."),
)

MAIN = Layout(
    name="FlashI2V main",
    signature=(*NATIVE.signature, _PICTURE),
    renames=(*_PATHS, *NATIVE.renames),
    ignored=MINDSPEED.ignored,
)
NPU = Layout(
    name="FlashI2V npu",
    signature=(*MINDSPEED.signature, _PICTURE),
    renames=(*_PATHS, *MINDSPEED.renames),
    ignored=MINDSPEED.ignored,
)
OWN = Layout(name="diffusers", signature=(*DIFFUSERS.signature, _PICTURE), renames=_PATHS, ignored=DIFFUSERS.ignored)


def configure_both(shapes: Shapes) -> dict[str, Any]:
    """Arguments of FlashI2VTransformer3DModel from parameter shapes."""
    width, _, *kernel = shapes.get("learnable_proj.0.weight", (64, 16, 1, 3, 3))
    # Only branch npu has kernels that reach through time, and it resizes the picture in its own way.
    interpolation = "bilinear" if kernel[0] > 1 else "bicubic"
    picture = {"projection_width": width, "projection_kernel": tuple(kernel), "interpolation": interpolation}
    return configure(shapes) | picture


FLASHI2V = Architecture(
    title=families.FLASHI2V,
    class_name="FlashI2VTransformer3DModel",
    construct=lambda config: FlashI2VTransformer3DModel(**config),
    configure=configure_both,
    layouts=(MAIN, NPU, OWN),
    # The shift is computed in full precision, as the main branch does.
    keep_float32=(*TRANSFORMER.keep_float32, "learnable_proj"),
    restore=TRANSFORMER.restore,
    blocks=TRANSFORMER.blocks,
)
