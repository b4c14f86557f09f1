"""How BindWeave's tensors are named: as published (diffusers), by its runtime, and by repacks in Wan's own names.

Source: BindWeave convert_ckpt.py.
"""

from __future__ import annotations

from typing import Any

from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes
from engines.wan.transformer_keys import DIFFUSERS, MINDSPEED, NATIVE, TRANSFORMER, configure

_PROJECTOR = "condition_embedder.text_projector"

PUBLISHED = Layout(
    name="diffusers",
    signature=(*DIFFUSERS.signature, r"condition_embedder\.text_projector\.linear_[12]\..*"),
    ignored=DIFFUSERS.ignored,
)
RUNTIME = Layout(
    name="MindSpeed-MM",
    signature=(*MINDSPEED.signature, r"text_projector\.linear_[12]\..*"),
    renames=((r"^text_projector\.", f"{_PROJECTOR}."), *MINDSPEED.renames),
    ignored=MINDSPEED.ignored,
)
REPACKED = Layout(
    name="Wan",
    signature=(*NATIVE.signature, r"text_projection\.[02]\..*"),
    renames=(
        (r"^text_projection\.0\.", f"{_PROJECTOR}.linear_1."),
        (r"^text_projection\.2\.", f"{_PROJECTOR}.linear_2."),
        *NATIVE.renames,
    ),
)


def configure_both(shapes: Shapes) -> dict[str, Any]:
    """Arguments of BindWeaveTransformer3DModel from parameter shapes."""
    return configure(shapes) | {"mllm_dim": shapes[f"{_PROJECTOR}.linear_1.weight"][1]}


BINDWEAVE = Architecture(
    title=families.BINDWEAVE,
    class_name="BindWeaveTransformer3DModel",
    construct=lambda config: BindWeaveTransformer3DModel(**config),
    configure=configure_both,
    layouts=(PUBLISHED, RUNTIME, REPACKED),
    keep_float32=TRANSFORMER.keep_float32,
    restore=TRANSFORMER.restore,
    blocks=TRANSFORMER.blocks,
)
