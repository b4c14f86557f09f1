"""A starter's sizes and parts follow from its own files, whichever autoencoder its network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image

from engines.loading.integrity import safetensors_header
from engines.loading.store import ASSETS, Store
from engines.phantom_wan.engine import PhantomWan
from engines.phantom_wan.spec import PhantomWanRequest
from engines.registry import SPECS
from engines.training.files import save_network
from engines.training.prepare import CODES
from engines.training.recipes import physics_encoder, pyramid_vae
from engines.training.recipes import vae as wan_vae
from engines.types import Frames
from engines.wan.starter import FIRST_VAE, facts_of, starter_geometry, starter_weights
from engines.wan.strides import spatial_stride, temporal_stride
from tests.engines import tiny_wan

CONFIGS = [
    # autoencoder, patch, pixels of a token, frames of a latent
    ({"temperal_downsample": [True, True], "patch_size": 2}, [1, 2, 2], 16, 4),
    ({"temperal_downsample": [True, True], "patch_size": 2}, [1, 1, 1], 8, 4),
    ({"temperal_downsample": [True, True], "patch_size": None}, [1, 2, 2], 8, 4),
    ({"temperal_downsample": [False, True, True], "patch_size": 2}, [1, 2, 2], 32, 4),
    ({"temperal_downsample": [False, True]}, [1, 1, 1], 4, 2),
]


@pytest.mark.parametrize(("vae", "patch", "multiple", "stride"), CONFIGS)
def test_sizes_and_lengths_follow_from_the_files(
    tmp_path: Path, vae: dict[str, object], patch: list[int], multiple: int, stride: int
) -> None:
    nothing = {"x": torch.zeros(1)}
    save_network(tmp_path / "other_vae.safetensors", nothing, facts={"config": vae})
    facts = {"config": {"patch_size": patch}, "vae": "other_vae.safetensors"}
    save_network(tmp_path / "network.safetensors", nothing, facts=facts)
    geometry = starter_geometry("network.safetensors", folder=tmp_path)
    assert (geometry.multiple, geometry.frame_stride) == (multiple, stride)
    parts = {part.role: part for part in starter_weights("network.safetensors", folder=tmp_path)}
    assert parts["vae"].files == ("starter/other_vae.safetensors",)
    assert parts["vae"].size_bytes == (tmp_path / "other_vae.safetensors").stat().st_size
    assert {"transformer", "vae", "text_encoder", "tokenizer"} == set(parts)


def test_a_network_that_names_no_autoencoder_is_of_the_first_one(tmp_path: Path) -> None:
    save_network(tmp_path / "old.safetensors", {"x": torch.zeros(1)}, facts={"config": {"patch_size": [1, 2, 2]}})
    assert starter_weights("old.safetensors", folder=tmp_path)[1].files == (f"starter/{FIRST_VAE}",)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_not_an_error_before_it_is_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cut.safetensors").write_bytes(content)
    assert facts_of(tmp_path / "cut.safetensors") == facts_of(tmp_path / "none.safetensors") == {}
    assert starter_geometry("cut.safetensors", folder=tmp_path).frame_stride == 4
    assert starter_weights("none.safetensors", folder=tmp_path)[0].size_bytes == 0


@pytest.mark.parametrize("engine", ["phantom-wan", "flashi2v"])
def test_shipped_networks_fit_the_autoencoder_that_they_name(engine: str) -> None:
    model = SPECS[engine].model("starter")
    paths = {role: found[0] for role, found in Store().require(engine, model).items()}
    vae, network = facts_of(paths["vae"])["config"], facts_of(paths["transformer"])["config"]
    assert vae["z_dim"] == network["in_channels"] == network["out_channels"]
    assert model.geometry.multiple == spatial_stride(vae) * network["patch_size"][-1]
    assert model.geometry.frame_stride == temporal_stride(vae)
    defaults = SPECS[engine].default_values("starter")
    clip = {name: defaults[name] for name in ("width", "height", "frames")}
    assert not model.geometry.problems(**clip)
    for width, height in model.geometry.sizes:
        assert not model.geometry.problems(width=width, height=height, frames=defaults["frames"])


@pytest.mark.parametrize("name", ["starter", "starter-sd3"])
def test_long_video_s_networks_fit_the_autoencoder_that_they_name(name: str) -> None:
    model = SPECS["pyramid-flow"].model(name)
    paths = {role: found[0] for role, found in Store().require("pyramid-flow", model).items()}
    vae, network = facts_of(paths["vae"])["config"], facts_of(paths["transformer"])["config"]
    assert network["in_channels"] in (vae["decoder_in_channels"], 4 * vae["decoder_in_channels"])


def test_every_file_in_the_assets_is_used_or_trained_with() -> None:
    used = {file for spec in SPECS.values() for model in spec.models for part in model.weights for file in part.files}
    training = {*CODES, wan_vae.FILE, pyramid_vae.FILE, physics_encoder.FILE}
    for path in (ASSETS / "starter").glob("*.safetensors"):
        assert f"starter/{path.name}" in used or path.name in training
        assert safetensors_header(path)[1] > 8


@pytest.mark.parametrize(
    ("config", "patch", "size"),
    [
        (tiny_wan.RESIDUAL_VAE, [1, 1, 1], (40, 24)),  # the next starters: latents of 8x8 pixels, each a token
        (tiny_wan.RESIDUAL_VAE, [1, 2, 2], (48, 32)),  # the first starters
        (tiny_wan.VAE, [1, 2, 2], (40, 24)),
        (tiny_wan.VAE, [1, 1, 1], (36, 20)),
    ],
)
def test_the_engine_makes_whatever_its_files_can(
    tmp_path: Path, config: dict[str, Any], patch: list[int], size: tuple[int, int]
) -> None:
    network = tiny_wan.TRANSFORMER | {"patch_size": patch}
    files = tiny_wan.write_model(tmp_path) | {
        "vae": (tiny_wan.write(tmp_path / "vae.safetensors", tiny_wan.vae(config), config),),
        "transformer": (
            tiny_wan.write(
                tmp_path / "transformer.safetensors",
                tiny_wan.seeded(lambda: WanTransformer3DModel(**network)),
                network,
                text_len=tiny_wan.TEXT_LEN,
                vae="vae.safetensors",
            ),
        ),
    }
    width, height = size
    multiple = starter_geometry("transformer.safetensors", folder=tmp_path).multiple
    assert width % multiple == height % multiple == 0
    assert width % (2 * multiple) or height % (2 * multiple)
    Image.new("RGB", (30, 30), "red").save(tmp_path / "red.png")
    values = {"prompt": "a red star moves right", "references": ({"path": tmp_path / "red.png"},), "frames": 5}
    request = PhantomWanRequest(**values, width=width, height=height, steps=2, seed=1)
    made = PhantomWan().generate(request, tiny_wan.CountingContext(files))
    frames = [item.pixels for item in made if isinstance(item, Frames)]
    assert np.concatenate(frames).shape == (5, height, width, 3)
