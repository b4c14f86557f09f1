"""Decoding is planned before the first step: in the best way that fits, or refused with the sizes that would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engines.errors import OutOfMemory
from engines.memory import activations
from engines.memory.planning import Way, plan
from engines.memory.precision import BFLOAT16, FLOAT32, Precision
from engines.memory.residency import ComponentCache
from engines.types import Component, Size
from engines.wan import vae
from engines.wan.components import WanModel
from engines.wan.decoding import FRAME_BY_FRAME
from tests.engines import tiny_wan
from tests.engines.fake_device import FakeDevice
from tests.engines.tiny_models import WAN_GEOMETRY
from tests.engines.tiny_wan import CountingContext

SIZES = (Size(64, 32), Size(32, 16), Size(24, 24))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    return tiny_wan.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def context(files: dict[str, tuple[Path, ...]]) -> CountingContext:
    context = CountingContext(files)
    context.model = replace(context.model, geometry=replace(WAN_GEOMETRY, sizes=SIZES))
    return context


def needed(model: WanModel, size: Size, precision: Precision = FLOAT32, *, apart: bool = False) -> int:
    """Bytes of the autoencoder and of decoding frames of a size."""
    told = {"wide": size.width, "high": size.height, "itemsize": precision.storage.itemsize, "device": "cpu"}
    return model.vae.size_bytes(precision) + activations.wan_decoder(model.vae.config, apart=apart, **told)


def test_what_fits_is_done_as_published(context: CountingContext) -> None:
    model = WanModel.find(context)
    context.budget_bytes = needed(model, Size(64, 32))
    decoding = model.decoder(context, width=64, height=32)
    assert decoding.component.precision == "float32" and decoding.component.notes == ()
    assert decoding.component.size_bytes + decoding.working_bytes == context.budget_bytes


@pytest.mark.parametrize(
    ("apart", "precision", "manner", "says"),
    [
        (False, "float32", FRAME_BY_FRAME, "autoencoder worked frame by frame"),
        (True, "bfloat16", "", "not the memory for float32: a Wan video autoencoder computed in bfloat16"),
    ],
)
def test_with_less_memory_it_is_decoded_in_the_next_manner_and_says_so(
    context: CountingContext, apart: bool, precision: str, manner: str, says: str
) -> None:
    model = WanModel.find(context)
    context.budget_bytes = needed(model, Size(64, 32), apart=apart) - 1
    decoding = model.decoder(context, width=64, height=32)
    assert (decoding.component.precision, decoding.manner) == (precision, manner)
    (note,) = decoding.component.notes
    assert says in note
    latents = torch.zeros(4, 2, 8, 16)
    with context.use(decoding.component, working_bytes=decoding.working_bytes) as network:
        assert sum(len(frames) for frames in vae.decode_frames(network, latents, manner=manner)) == 5
    assert context.notes == [note]


def test_the_hint_names_the_sizes_that_would_fit_and_no_length(context: CountingContext) -> None:
    model = WanModel.find(context)
    context.budget_bytes = needed(model, Size(32, 16), BFLOAT16, apart=True)
    with pytest.raises(OutOfMemory) as refused:
        model.decoder(context, width=64, height=32)
    assert "Decoding frames of 64x32 needs" in refused.value.message and "any length" in refused.value.message
    assert refused.value.hint == "Choose 32x16."
    assert model.decoder(context, width=32, height=16).component.precision == "bfloat16"
    context.budget_bytes = 1_000
    with pytest.raises(OutOfMemory, match="Choose a smaller size, or allow more memory"):
        model.decoder(context, width=64, height=32)


@pytest.mark.parametrize("is_ram", [True, False])
def test_the_room_is_what_a_use_takes(is_ram: bool) -> None:
    device = FakeDevice(1_000, is_ram=is_ram)
    cache = ComponentCache(device, device_budget_bytes=1_000, ram_budget_bytes=10_000)
    network = torch.nn.Linear(10, 10, bias=False)
    one, other = (Component(name, build=lambda: network, size_bytes=400) for name in ("one", "other"))

    def fits(working: int) -> bool:
        return plan([Way("float32", 400, working)], cache.room()).possible

    assert fits(600) and not fits(601) and not plan([Way("float32", 400, 600)], cache.room(beside=1)).possible
    with cache.use(one, working_bytes=100):
        assert fits(100) and not fits(101)
    assert fits(600), "what is idle goes"
    with cache.use(other, working_bytes=600):
        assert cache.state()[0][0] == "one" or cache.device_bytes == 1_000
    assert cache.room().ram_bytes == (None if is_ram else 10_000)
