"""Adapters change a network exactly as their files say, for as long as they are on it, or are refused in a sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.adapters.applying import applied, at_step
from engines.adapters.files import adapter_problem, listed
from engines.adapters.matching import FittedAdapter, fit
from engines.errors import IncompatibleCheckpoint
from engines.inputs import Adapter
from engines.loading.networks import find_network
from engines.memory.precision import BFLOAT16, FLOAT32
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_wan
from tests.engines.tiny_adapters import RANK, factors, plain, wan_name, write

ALPHA = 2.0
Tensors = dict[str, torch.Tensor]
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def inputs() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(1, 4, 2, 4, 4, generator=draw),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 12, 16, generator=draw),
    }


@torch.no_grad()
def output(network: torch.nn.Module) -> torch.Tensor:
    return network(**inputs(), return_dict=False)[0]


def fitted(path: Path, network: torch.nn.Module, **parts: float) -> FittedAdapter:
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return fit(Adapter(path=path, **parts), TRANSFORMER, shapes, network="base.safetensors")


def merged(network: torch.nn.Module, changes: dict[str, torch.Tensor], scale: float = 1.0) -> torch.nn.Module:
    """A copy whose parameters are W + scale * change."""
    changed = copy.deepcopy(network)
    state = changed.state_dict()
    changed.load_state_dict(state | {name: state[name] + scale * change for name, change in changes.items()})
    return changed


def products(given: Factors) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": up @ down for name, (down, up) in given.items()}


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def named(given: Factors, *, down: str, up: str, name: Callable[[str], str]) -> Tensors:
    tensors = {}
    for layer, (first, second) in given.items():
        tensors |= {name(layer) + down: first, name(layer) + up: second}
    return tensors


def flat(layer: str) -> str:
    return "lora_unet_" + wan_name(layer).replace(".", "_")


def alphas(given: Factors, name: Callable[[str], str]) -> Tensors:
    return {f"{name(layer)}.alpha": torch.tensor(ALPHA) for layer in given}


A, B = ".lora_A.weight", ".lora_B.weight"
DOWN, UP = ".lora_down.weight", ".lora_up.weight"
DIALECTS: dict[str, tuple[Callable[[Factors], Tensors], float, dict[str, Any]]] = {
    "diffusers": (lambda f: named(f, down=A, up=B, name=lambda n: f"transformer.{n}"), 1, {}),
    "diffusers with alpha in the header": (
        lambda f: named(f, down=A, up=B, name=lambda n: f"transformer.{n}"),
        ALPHA / RANK,
        {"lora_adapter_metadata": {"transformer.r": RANK, "transformer.lora_alpha": ALPHA}},
    ),
    "no prefix": (lambda f: named(f, down=A, up=B, name=str), 1, {}),
    "authors'": (lambda f: named(f, down=A, up=B, name=lambda n: f"diffusion_model.{wan_name(n)}"), 1, {}),
    "authors' down and up with alpha": (
        lambda f: (
            named(f, down=DOWN, up=UP, name=lambda n: f"diffusion_model.{wan_name(n)}")
            | alphas(f, lambda n: f"diffusion_model.{wan_name(n)}")
        ),
        ALPHA / RANK,
        {},
    ),
    "peft": (
        lambda f: named(
            f, down=".lora_A.default.weight", up=".lora_B.default.weight",
            name=lambda n: f"base_model.model.{wan_name(n)}",
        ),
        1,
        {},
    ),
    "musubi": (lambda f: named(f, down=DOWN, up=UP, name=flat) | alphas(f, flat), ALPHA / RANK, {}),
    "kohya with the library's names": (
        lambda f: named(f, down=DOWN, up=UP, name=lambda n: "lora_unet_" + n.replace(".", "_")),
        1,
        {},
    ),
    "old diffusers": (
        lambda f: named(f, down=".lora.down.weight", up=".lora.up.weight", name=lambda n: f"transformer.{n}"),
        1,
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_naming_gives_exactly_w_plus_s_b_a(dialect: str, tmp_path: Path) -> None:
    network = tiny_wan.transformer()
    given = factors(network, "blocks.") | factors(network, "condition_embedder.text_embedder.linear_1")
    make, scale, notes = DIALECTS[dialect]
    adapter = fitted(write(tmp_path / "style.safetensors", make(given), **notes), network, strength=0.7)
    before, expected = output(network), output(merged(network, products(given), 0.7 * scale))
    with applied([adapter], network):
        assert distance(output(network), expected) < 2e-6 < 1e-2 < distance(output(network), before)
    assert torch.equal(output(network), before)
    assert list(network.state_dict()) == list(tiny_wan.transformer().state_dict())


def test_peft_s_configuration_beside_the_file_is_obeyed(tmp_path: Path) -> None:
    network, given = tiny_wan.transformer(), factors(tiny_wan.transformer())
    tensors = named(given, down=A, up=B, name=lambda n: f"base_model.model.{n}")
    path = write(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text('{"r": 3, "lora_alpha": 6, "use_rslora": true}')
    expected = output(merged(network, products(given), 6 / RANK**0.5))
    with applied([fitted(path, network)], network):
        assert distance(output(network), expected) < 2e-6


def test_a_layer_may_have_an_alpha_of_its_own_in_the_header(tmp_path: Path) -> None:
    network, own = tiny_wan.transformer(), 6.0
    given = factors(network)
    tensors = named(given, down=A, up=B, name=lambda n: f"transformer.{n}")
    notes = {"transformer.lora_alpha": ALPHA, "transformer.alpha_pattern": {"attn1.to_q": own}}
    path = write(tmp_path / "style.safetensors", tensors, lora_adapter_metadata=notes)
    changes = {
        name: (own if "attn1.to_q" in name else ALPHA) / RANK * change for name, change in products(given).items()
    }
    with applied([fitted(path, network)], network):
        assert distance(output(network), output(merged(tiny_wan.transformer(), changes))) < 2e-6


def distilled(network: torch.nn.Module) -> tuple[Tensors, dict[str, torch.Tensor]]:
    """A step-distillation file: besides factors, differences of norms, biases, the modulation and the convolution."""
    given, draw = factors(network), torch.Generator().manual_seed(5)
    tensors = named(given, down=DOWN, up=UP, name=lambda n: f"diffusion_model.{wan_name(n)}")
    changes = products(given)
    for name, parameter in network.named_parameters():
        if name in changes or "condition_embedder.image" in name:
            continue
        change = torch.randn(parameter.shape, generator=draw) * 0.1
        changes[name] = change
        layer, _, kind = name.rpartition(".")
        match kind:
            case "weight" | "bias":
                own = wan_name(layer)
                for library, authors in (
                    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
                    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
                    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
                    ("condition_embedder.time_proj", "time_projection.1"),
                    ("proj_out", "head.head"),
                ):
                    own = own.replace(library, authors)
                tensors[f"diffusion_model.{own}.diff" + "_b" * (kind == "bias")] = change
            case "scale_shift_table":
                own = f"{layer}.modulation" if layer else "head.modulation"
                tensors[f"diffusion_model.{own}.diff"] = change
    return tensors, changes


def test_step_distillation_files_keep_their_norms_biases_and_modulations(tmp_path: Path) -> None:
    network = tiny_wan.transformer()
    tensors, changes = distilled(network)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in changes} >= {
        "norm_q",
        "norm2",
        "patch_embedding",
        "0",
    }
    adapter = fitted(write(tmp_path / "lightx2v.safetensors", tensors), network, strength=0.5)
    assert {change.parameter for change in adapter.changes} == set(changes) == set(dict(network.named_parameters()))
    before = output(network)
    with applied([adapter], network):
        assert distance(output(network), output(merged(tiny_wan.transformer(), changes, 0.5))) < 5e-6
    assert torch.equal(output(network), before)


def test_biases_of_the_second_factor_count_too(tmp_path: Path) -> None:
    network, given = tiny_wan.transformer(), factors(tiny_wan.transformer(), "blocks.0.ffn.net.2")
    (layer, _), bias = next(iter(given.items())), torch.linspace(-1, 1, 32)
    tensors = named(given, down=A, up=B, name=str) | {f"{layer}.lora_B.bias": bias}
    changes = products(given) | {f"{layer}.bias": bias}
    with applied([fitted(write(tmp_path / "biased.safetensors", tensors), network)], network):
        assert distance(output(network), output(merged(tiny_wan.transformer(), changes))) < 2e-6


def test_several_adapters_add_up_each_with_its_strength_over_its_steps(tmp_path: Path) -> None:
    network, before = tiny_wan.transformer(), output(tiny_wan.transformer())
    files = [plain(tmp_path / f"{seed}.safetensors", network, seed=seed) for seed in (1, 2)]
    one, two = (products(factors(network, seed=seed)) for seed in (1, 2))
    early = fitted(files[0], network, strength=0.5, end=0.5)
    late = fitted(files[1], network, strength=-1, begin=0.25)
    with applied([early, late], network):
        for share, first, second in ((0.0, 0.5, 0), (0.25, 0.5, -1), (0.49, 0.5, -1), (0.5, 0, -1), (0.95, 0, -1)):
            at_step(network, share)
            expected = merged(merged(tiny_wan.transformer(), one, first), two, second)
            assert distance(output(network), output(expected)) < 2e-6, share
    assert torch.equal(output(network), before)


def test_an_adapter_is_taken_off_where_its_job_fails(tmp_path: Path) -> None:
    network = tiny_wan.transformer()
    tensors, _ = distilled(network)
    adapters = [fitted(write(tmp_path / "a.safetensors", tensors), network)] * 2
    before, kinds = output(network), [type(module) for module in network.modules()]
    with pytest.raises(KeyError), applied(adapters, network), applied(adapters, network):
        raise KeyError
    assert torch.equal(output(network), before) and [type(module) for module in network.modules()] == kinds
    assert not any(module._forward_hooks or "forward" in vars(module) for module in network.modules())


def test_half_precision_networks_keep_theirs(tmp_path: Path) -> None:
    files = tiny_wan.write_model(tmp_path)
    network = find_network("transformer", files["transformer"], TRANSFORMER)
    path = plain(tmp_path / "style.safetensors", tiny_wan.transformer())
    changed = network.with_adapters([Adapter(path=path)])
    half, whole = changed.component(BFLOAT16), changed.component(FLOAT32)
    assert whole.key == network.component(FLOAT32).key, "the network itself is kept warm, not the changed one"
    module = half.build()
    with half.adapted(module):
        made = module(**{k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs().items()})[0]
        assert made.dtype == torch.bfloat16
    expected = merged(whole.build(), products(factors(tiny_wan.transformer())))
    assert distance(made.float(), output(expected)) < 3e-2
    bytes_ = sum((down.numel() + up.numel()) for down, up in factors(tiny_wan.transformer()).values())
    assert changed.adapters[0].bytes_in(torch.bfloat16) == 2 * bytes_


# What does not fit


def wider() -> torch.nn.Module:
    return tiny_wan.seeded(
        lambda: type(tiny_wan.transformer())(**tiny_wan.TRANSFORMER | {"num_attention_heads": 3, "ffn_dim": 64})
    )


def deeper() -> torch.nn.Module:
    return tiny_wan.seeded(lambda: type(tiny_wan.transformer())(**tiny_wan.TRANSFORMER | {"num_layers": 4}))


def broken(kind: str) -> Tensors:
    network = tiny_wan.transformer()
    tensors = named(factors(network), down=A, up=B, name=lambda n: f"diffusion_model.{wan_name(n)}")
    first = next(iter(tensors))
    layer = first.removesuffix(A)
    match kind:
        case "wider":
            return named(factors(wider()), down=A, up=B, name=str)
        case "deeper":
            return named(factors(deeper()), down=A, up=B, name=lambda n: f"diffusion_model.{wan_name(n)}")
        case "deeper, flat":
            return named(factors(deeper()), down=DOWN, up=UP, name=flat)
        case "another family":
            return {f"transformer.single_blocks.0.linear1{part}": torch.ones(3, 3) for part in (A, B)}
        case "for pictures too":
            return tensors | {f"diffusion_model.blocks.0.cross_attn.k_img{part}": torch.ones(32, 32) for part in (A, B)}
        case "half":
            return {key: value for key, value in tensors.items() if key != layer + B}
        case "no number":
            return tensors | {first: torch.full_like(tensors[first], torch.nan)}
        case "LoKr":
            return {"lycoris_blocks_0_ffn_0.lokr_w1": torch.ones(2, 2)}
        case "DoRA":
            return tensors | {f"{layer}.dora_scale": torch.ones(32, 1)}
        case "text":
            return tensors | {f"lora_te_layers_0_q{part}": torch.ones(4, 4) for part in (DOWN, UP)}
        case "more":
            return tensors | {"optimizer.step": torch.ones(1)}
        case "a checkpoint":
            return network.state_dict()
        case "wrong norm":
            return tensors | {"diffusion_model.blocks.0.self_attn.norm_q.diff": torch.ones(7)}
    raise KeyError(kind)


REFUSED = {
    "wider": r"was made for a network of another size: it changes \[48, 48\] numbers of .* has \[32, 32\]",
    "deeper": r"was made for a deeper network: it changes block 4, and base\.safetensors has 2",
    "deeper, flat": r"was made for a deeper network: it changes block 4, and base\.safetensors has 2",
    "another family": r"was made for another network than a Wan video transformer: .*single_blocks\.0\.linear1",
    "for pictures too": r"changes a layer that base\.safetensors does not have \(.*k_img\)",
    "half": "is not complete: of .* it holds one factor without the other",
    "no number": "is damaged: it holds numbers that are not finite",
    "LoKr": "is a LoKr, which cannot be used",
    "DoRA": "is a DoRA, which cannot be used",
    "text": "changes a text encoder too",
    "more": r"holds tensors that are no part of an adapter \(optimizer\.step\)",
    "a checkpoint": "is no adapter: it looks like a Wan video transformer",
    "wrong norm": r"it changes \[7\] numbers of blocks\.0\.attn1\.norm_q\.weight",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_whole_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "style.safetensors", broken(kind))
    with pytest.raises(IncompatibleCheckpoint, match=REFUSED[kind]) as refused:
        fitted(path, tiny_wan.transformer())
    sentence = str(refused.value)
    assert sentence.startswith("style.safetensors ") and refused.value.hint
    assert str(tmp_path) not in sentence and "\n" not in sentence


@pytest.mark.parametrize("kind", ["LoKr", "DoRA", "a checkpoint"])
def test_what_is_no_lora_is_seen_before_anything_is_queued(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "style.safetensors", broken(kind))
    problem = adapter_problem(path)
    assert problem and "style.safetensors" in problem and str(tmp_path) not in problem and problem.endswith(".")
    assert adapter_problem(plain(tmp_path / "good.safetensors", tiny_wan.transformer())) is None
    path.write_bytes(path.read_bytes()[:-10])
    assert "is cut short" in (adapter_problem(path) or "")


def test_files_of_a_folder_are_listed_by_their_names_in_it(tmp_path: Path) -> None:
    for name in ("Style.safetensors", "a/turbo.pt", ".hidden/x.safetensors", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert listed(tmp_path) == ["a/turbo.pt", "Style.safetensors"]
    assert listed(None) == listed(tmp_path / "none") == []
