"""Prefixes as people's scripts leave them: with slashes, or on some of the keys alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engines.errors import IncompatibleCheckpoint
from engines.loading.checkpoints import Checkpoint, load, open_checkpoint
from engines.loading.folders import weights_in
from engines.loading.key_rules import joined
from engines.wan.encoder_keys import IMAGE_ENCODER, TEXT_ENCODER
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines.test_checkpoints import published, write

FAMILIES = {"transformer_t2v": TRANSFORMER, "transformer_i2v": TRANSFORMER, "text_encoder": TEXT_ENCODER}
MISNAMED: dict[str, Callable[[str, int], str]] = {
    "a prefix with a slash": lambda key, place: f"model/{key}",
    "slashes throughout": lambda key, place: "model/" + key.replace(".", "/"),
    "two prefixes with slashes": lambda key, place: f"model/diffusion_model/{key}",
    "every other key": lambda key, place: f"model.{key}" if place % 2 else key,
    "the second half": lambda key, place: f"model.diffusion_model.{key}" if place > 20 else key,
    "the first keys": lambda key, place: f"module.{key}" if place < 7 else key,
    "half, with a slash": lambda key, place: f"model/{key}" if place % 2 else key,
}


@pytest.mark.parametrize("case", FAMILIES)
@pytest.mark.parametrize("how", MISNAMED)
def test_a_network_is_found_under_any_prefix_that_some_keys_have(how: str, case: str) -> None:
    tensors = published(case)
    misnamed = {MISNAMED[how](key, place): value for place, (key, value) in enumerate(tensors.items())}
    plain, made = (
        load(Checkpoint("model.pth", state), FAMILIES[case], dtype=torch.float32).state_dict()
        for state in (tensors, misnamed)
    )
    assert plain.keys() == made.keys() and all(torch.equal(plain[name], made[name]) for name in plain)


@pytest.mark.parametrize(
    "beside",
    [
        {f"ema.{key}": value for key, value in published().items()},
        {f"text_encoder.{key}": value for key, value in published("text_encoder").items()},
        {f"first_stage_model.{key}": value for key, value in published("vae_decode_image").items()},
        {f"critic.{key}": value for key, value in list(published().items())[:9]},
    ],
    ids=["its average", "a text encoder", "an autoencoder", "a part of another"],
)
def test_other_networks_beside_it_are_not_taken_for_its_keys(beside: dict[str, torch.Tensor]) -> None:
    names = {key: key for key in published() | beside}
    assert joined(names) == names


@pytest.mark.parametrize(
    "case", ["transformer_t2v", "transformer_i2v", "text_encoder", "vae_decode_image", "image_encoder"]
)
def test_published_files_are_left_as_they_are(case: str) -> None:
    for prefix in ("", "model.diffusion_model."):
        names = {f"{prefix}{key}": key for key in published(case)}
        assert joined(names) == names
    assert IMAGE_ENCODER.places(published("image_encoder"))


def test_two_precisions_in_one_folder_are_named_as_the_cause(tmp_path: Path) -> None:
    for kind, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        tensors = {key: value.to(dtype) for key, value in published().items()}
        write(tmp_path / f"wan-{kind}.safetensors", tensors)
    with pytest.raises(IncompatibleCheckpoint) as refused:
        open_checkpoint(weights_in(tmp_path))
    assert str(refused.value) == (
        "wan-bf16.safetensors and wan-fp16.safetensors hold the same network, each by itself, perhaps in two "
        "precisions. Give one of the files instead of their folder."
    )


def test_a_shard_that_repeats_some_of_another_is_another_fault(tmp_path: Path) -> None:
    tensors = list(published().items())
    write(tmp_path / "a.safetensors", dict(tensors[:20]))
    write(tmp_path / "b.safetensors", dict(tensors[15:]))
    with pytest.raises(IncompatibleCheckpoint, match=r"b\.safetensors repeats tensors of a\.safetensors: "):
        open_checkpoint(weights_in(tmp_path))
