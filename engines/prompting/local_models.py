"""The language models that refine prompts on this machine, as files. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engines.bindweave.spec import BINDWEAVE, BINDWEAVE_14B
from engines.prompting.tasks import refining_task
from engines.types import ModelSpec, Weights

_ROLES = ("mllm", "mllm_tokenizer")
_3B = "Qwen/Qwen2.5-VL-3B-Instruct"


@dataclass(frozen=True)
class LocalModel:
    """Where a model's files are looked for, as those of `engine`; `tied` says that its output table is its input's."""

    engine: str
    spec: ModelSpec
    tied: bool


# The larger one is BindWeave's own: the same files, so the same network in memory.
_OF_BINDWEAVE = tuple(weights for weights in BINDWEAVE_14B.weights if weights.role in _ROLES)
LOCAL_MODELS: dict[str, LocalModel] = {
    refining_task("qwen-7b"): LocalModel(
        BINDWEAVE.name, replace(BINDWEAVE_14B, title="Qwen2.5-VL 7B", weights=_OF_BINDWEAVE), tied=False
    ),
    refining_task("qwen-3b"): LocalModel(
        "refiner",
        replace(
            BINDWEAVE_14B,
            name="3B",
            title="Qwen2.5-VL 3B",
            weights=(
                Weights(
                    "mllm", ("model.safetensors.index.json",), _3B, 7_510_000_000, licence="LicenseRef-Qwen-Research"
                ),
                Weights("mllm_tokenizer", ("tokenizer.json", "tokenizer_config.json"), _3B, 7_100_000),
            ),
        ),
        tied=True,
    ),
}
