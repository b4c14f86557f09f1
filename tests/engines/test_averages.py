"""Files that hold a network more than once: the average of a training is taken, and what was taken is said (F09)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.loading.networks import find_network
from engines.memory.precision import FLOAT32
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines.test_checkpoints import load_file_of, refusal, write
from tests.engines.test_files import expected, plain, same, scaled, under

__all__ = ["expected", "plain"]  # fixtures


@pytest.mark.parametrize(
    ("raw", "average"),
    [
        ("model", "ema"), ("generator", "generator_ema"), ("model", "model_ema"), ("model", "ema_model"),
        ("state_dict", "ema_state_dict"), ("params", "params_ema"), ("net", "averaged_model"), ("model", "swa_model"),
        ("model", "EMA"), ("model", "modelEMA"), ("module.net", "ema.module.net"), ("model", "ema-0.9999"),
        ("online_model", "ema_model"), ("model", "shadow"), ("model", "moving_average"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_averaged_weights_are_taken_in_every_spelling(
    raw: str,
    average: str,
    suffix: str,
    tmp_path: Path,
    plain: dict[str, torch.Tensor],
    expected: dict[str, torch.Tensor],
) -> None:
    tensors = under(f"{raw}.", plain) | under(f"{average}.", scaled(plain, 2.0)) | {f"{average}.decay": torch.ones(())}
    path = write(tmp_path / f"train{suffix}", tensors)
    network = find_network("transformer", (path,), TRANSFORMER)
    component = network.component(FLOAT32)
    assert same(component.build(), expected, 2.0)
    (note,) = component.notes
    assert "averaged weights" in note and average in note and path.name in note


def test_averages_of_some_weights_are_completed(
    tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    averaged = {key: value * 2 for key, value in plain.items() if not key.startswith("text_embedding.")}
    torch.save({"model": plain, "ema": averaged}, tmp_path / "part.pth")
    state = load_file_of(tmp_path / "part.pth").state_dict()
    for name, value in expected.items():
        assert torch.equal(state[name], value * (1 if "text_embedder" in name else 2))


def test_averages_written_without_dots_are_taken(
    tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    dotless = {f"model_ema.diffusion_model{key.replace('.', '')}": value * 2 for key, value in plain.items()}
    counts = {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    path = write(tmp_path / "sd.safetensors", under("model.diffusion_model.", plain) | dotless | counts)
    assert same(load_file_of(path), expected, 2.0)


def test_a_network_alone_has_nothing_to_note(tmp_path: Path, plain: dict[str, torch.Tensor]) -> None:
    path = write(tmp_path / "schema.pth", under("schema.cinema.", plain))
    assert find_network("transformer", (path,), TRANSFORMER).component(FLOAT32).notes == ()


def test_averages_kept_in_a_list_are_taken_where_they_fit(
    tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    shadows = [value * 2 for value in plain.values()]
    for kept in (shadows, tuple(shadows), shadows[1:], shadows[::-1]):
        ema = {"decay": 0.999, "num_updates": torch.tensor(9), "shadow_params": kept, "collected_params": None}
        torch.save({"model": plain, "ema": ema}, tmp_path / "list.pth")
        by = 2.0 if len(kept) == len(shadows) and kept[0] is shadows[0] else 1.0
        assert same(load_file_of(tmp_path / "list.pth"), expected, by)


@pytest.mark.parametrize(
    "beside",
    [
        "exp_avg",
        "state.exp_avg_sq",
        "optimizer.exp_avg",
        "critic_ema",
        "fake_score_ema",
        "discriminator.ema",
        "teacher",
    ],
)
def test_what_training_kept_beside_is_not_the_average(
    beside: str, tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    path = write(tmp_path / "train.pth", under("generator.", plain) | under(f"{beside}.", scaled(plain, 2.0)))
    component = find_network("transformer", (path,), TRANSFORMER).component(FLOAT32)
    assert same(component.build(), expected)
    (note,) = component.notes
    assert note == 'train.pth holds several such networks, and one of them is used ("generator").'


def test_of_several_averages_none_is_guessed(tmp_path: Path, plain: dict[str, torch.Tensor]) -> None:
    for first, second in (("ema_0.99", "ema_0.9999"), ("low_noise_ema", "high_noise_ema")):
        tensors = under(f"{first}.", scaled(plain, 2.0)) | under(f"{second}.", scaled(plain, 3.0))
        sentence = refusal(write(tmp_path / "two.pth", under("model.", plain) | tensors))
        assert f'more than once: under "{first}" and "{second}"' in sentence
