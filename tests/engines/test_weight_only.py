"""Weights made 8 bits wide at load: a quarter of the bytes, nearly the same numbers, only where memory is short."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from engines.errors import StudioError
from engines.inputs import Adapter
from engines.loading import weight_only
from engines.loading.networks import Network, find_network
from engines.loading.packed import packed_layers
from engines.loading.store import ASSETS
from engines.memory import offload
from engines.memory.planning import Way, ladder
from engines.memory.precision import PRECISIONS
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import encode_tokens
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_wan
from tests.engines.test_adapters import distance
from tests.engines.test_checkpoints import size
from tests.engines.test_quantised_files import CONFIG, original, output
from tests.engines.tiny_adapters import plain
from tests.engines.tiny_wan import CountingContext

pytest.importorskip("torchao")

# Relative errors of a prediction, measured: of random weights 0.0011 and 0.0070 in float32, 0.0041 and 0.0087 in
# bfloat16; of the shipped network, of noise and a text that it never saw, 0.010 and 0.035.
ERRORS = {"int8": 6e-3, "float8": 1.2e-2}
SHIPPED = {"int8": 1.5e-2, "float8": 5e-2}


def network(folder: Path) -> Network:
    return find_network("transformer", (tiny_wan.write(folder / "wan.safetensors", original(), CONFIG),), TRANSFORMER)


@pytest.mark.parametrize("compute", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ERRORS)
def test_a_quarter_of_the_bytes_and_nearly_the_same_numbers(kind: str, compute: str, tmp_path: Path) -> None:
    found, precision = network(tmp_path), PRECISIONS[f"{kind} in {compute}"]
    component, whole = found.component(precision), found.component(PRECISIONS[compute])
    assert component.precision == f"{kind} in {compute}" and component.key != whole.key
    module, dtype = component.build(), precision.compute
    assert 1e-4 < distance(output(module, dtype), output(whole.build(), dtype)) < ERRORS[kind]
    assert component.size_bytes == size(module) == found.counted_in(precision).way("", dtype.itemsize).size_bytes
    blocks = size(module.blocks) / size(original().blocks)
    assert blocks < 0.29 and not [name for name, _ in packed_layers(module) if not name.startswith("blocks.")]
    offload.group(module, component.blocks, device=torch.device("cpu"))
    grouped = output(module, dtype)
    offload.ungroup(module)
    assert torch.equal(output(module, dtype), grouped)


@pytest.mark.parametrize("kind", ERRORS)
@torch.no_grad()
def test_the_shipped_network_keeps_its_numbers(kind: str) -> None:
    path = ASSETS / "starter" / "wan_t2v.safetensors"
    found = find_network("transformer", (path,), TRANSFORMER)
    draw, config = torch.Generator().manual_seed(0), found.config
    values = {
        "hidden_states": torch.randn(1, config["in_channels"], 3, 8, 8, generator=draw),
        "timestep": torch.tensor([600]),
        "encoder_hidden_states": torch.randn(1, 16, config["text_dim"], generator=draw),
    }
    made, expected = (
        found.component(PRECISIONS[name]).build()(**values, return_dict=False)[0]
        for name in (f"{kind} in float32", "float32")
    )
    assert 1e-3 < distance(made, expected) < SHIPPED[kind]


def test_the_text_encoder_too(tmp_path: Path) -> None:
    path = tiny_wan.write(tmp_path / "umt5.safetensors", tiny_wan.text_encoder(), tiny_wan.TEXT_ENCODER)
    found = find_network("text_encoder", (path,), TEXT_ENCODER)
    ids, lengths = torch.tensor([[3, 4, 6, 1]]), torch.tensor([4])
    made, expected = (
        encode_tokens(found.component(PRECISIONS[name]).build(), ids, lengths)
        for name in ("int8 in float32", "float32")
    )
    assert 1e-4 < distance(made, expected) < 2e-2


def test_an_adapter_adds_to_them(tmp_path: Path) -> None:
    adapter = Adapter(path=plain(tmp_path / "style.safetensors", original()), strength=0.3)
    found = network(tmp_path).with_adapters([adapter])
    made, expected = (found.component(PRECISIONS[name]) for name in ("int8 in float32", "float32"))
    module, whole = made.build(), expected.build()
    before = output(module)
    with made.adapted(module), expected.adapted(whole):
        assert distance(output(module), before) > 0.05 > 1e-2 > distance(output(module), output(whole))
    assert torch.equal(output(module), before)


def context(budget: int) -> CountingContext:
    made = CountingContext({})
    made.budget_bytes = budget
    return made


def test_they_are_chosen_where_nothing_else_fits_and_people_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = network(tmp_path)
    monkeypatch.setattr(Network, "streams", property(lambda self: False))
    half, narrow = (found.component(PRECISIONS[name]).size_bytes for name in ("bfloat16", "int8 in float32"))
    assert narrow < half, "or there is nothing to choose"
    plans = {
        budget: found.plan(context(budget), {"": lambda itemsize: 0}) for budget in (2**40, half, narrow, narrow - 1)
    }
    forms = [made.component.precision for made in plans.values()]
    assert forms[:3] == ["float32", "bfloat16", "int8 in float32"] and not plans[narrow - 1].plan.possible
    told = plans[narrow].component.notes
    assert len(told) == 1 and "were made 8 bits wide, so fine details may differ" in told[0]
    assert not plans[half].component.notes
    monkeypatch.setattr(weight_only, "available", lambda: False)
    assert not found.plan(context(narrow), {"": lambda itemsize: 0}).plan.possible


def test_they_come_first_where_somebody_wants_them(tmp_path: Path) -> None:
    found, wanting = network(tmp_path), context(2**40)
    wanting.wanted = "int8"
    made = found.plan(wanting, {"": lambda itemsize: 0})
    assert made.component.precision == "int8 in float32" and made.component.rung == 0
    assert made.component.notes == (), "nothing was lost for want of memory"


def test_what_loses_nothing_comes_first() -> None:
    whole, half, narrow = Way("a", 8, turn_bytes=3), Way("b", 4, turn_bytes=2), Way("c", 2, turn_bytes=1)
    for patient in (False, True):
        rungs = [(rung.way.form, rung.mode) for rung in ladder([whole, half], narrow=[narrow], turns_first=patient)]
        assert rungs[4:] == [("c", "resident"), ("c", "turns")] and {form for form, _ in rungs[:4]} == {"a", "b"}


def test_without_the_package_it_is_one_sentence_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(StudioError) as refused:
        weight_only.pack(torch.ones(2, 2), "int8")
    assert str(refused.value) == (
        "Weights of 8 bits need the package torchao. Install it: pip install -r requirements-quantised.txt"
    )


def test_no_weight_stands_twice_in_memory_while_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer at a time: nothing of full width is kept."""
    seen: list[Any] = []
    real = weight_only.pack

    def watched(weight: torch.Tensor, kind: str) -> Any:
        made = real(weight, kind)
        seen.append((made[0].dtype, made[0].shape == weight.shape))
        return made

    monkeypatch.setattr(weight_only, "pack", watched)
    module = network(tmp_path).component(PRECISIONS["int8 in float32"]).build()
    assert isinstance(module, WanTransformer3DModel)
    assert seen == [(torch.int8, True)] * sum(1 for _ in packed_layers(module))
