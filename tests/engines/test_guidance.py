"""Guidance is the published formula, and makes no pass that it does not need."""

import pytest
import torch

from engines.sampling import guidance
from engines.sampling.denoise import SamplingStep
from engines.sampling.guidance import NetworkCall

PASSES = {name: torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)) for seed, name in enumerate("abc")}


def predict(seen: list[torch.Tensor]) -> torch.Tensor:
    predict.calls.append(len(seen))
    return torch.stack([torch.sin(condition) for condition in seen])


@pytest.fixture(autouse=True)
def no_calls() -> None:
    predict.calls = []


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("image", "text"), [(5.0, 7.5), (1.0, 7.5), (3.0, 3.0), (4.0, 0.0), (1.0, 1.0), (0.0, 2.0)])
def test_subject_guidance_is_the_published_formula(image: float, text: float, *, batched: bool) -> None:
    conditions = dict(zip(("pos_it", "pos_i", "neg"), PASSES.values(), strict=True))
    pos_it, pos_i, neg = (torch.sin(condition) for condition in conditions.values())
    published = neg + image * (pos_i - neg) + text * (pos_it - pos_i)
    made = guidance.guided(predict, conditions, guidance.subject(image, text), batched=batched)
    torch.testing.assert_close(made, published, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("image", "text", "passes"),
    [
        (5.0, 7.5, ["pos_it", "pos_i", "neg"]),
        (3.0, 3.0, ["pos_it", "neg"]),
        (4.0, 0.0, ["pos_i", "neg"]),
        (1.0, 7.5, ["pos_it", "pos_i"]),
        (1.0, 1.0, ["pos_it"]),
        (1.0, 0.0, ["pos_i"]),
        (0.0, 0.0, ["neg"]),
    ],
)
def test_only_needed_passes_are_made(image: float, text: float, passes: list[str]) -> None:
    weights = guidance.subject(image, text)
    assert guidance.needed(weights) == passes
    conditions = dict(zip(("pos_it", "pos_i", "neg"), PASSES.values(), strict=True))
    guidance.guided(predict, conditions, weights, batched=True)
    assert predict.calls == [len(passes)]
    guidance.guided(predict, conditions, weights, batched=False)
    assert predict.calls[1:] == [1] * len(passes)


@pytest.mark.parametrize(("batched", "expected"), [(True, [("pos_it", "neg")]), (False, [("pos_it",), ("neg",)])])
def test_the_network_is_told_its_passes_and_its_step(batched: bool, expected: list[tuple[str, ...]]) -> None:
    conditions = dict(zip(("pos_it", "pos_i", "neg"), PASSES.values(), strict=True))
    calls: list[NetworkCall] = []

    def told(batch: list[torch.Tensor], call: NetworkCall) -> torch.Tensor:
        calls.append(call)
        assert len(batch) == len(call.passes)
        return predict(batch)

    step = SamplingStep(3, 20, 0.75)
    weights = guidance.subject(3.0, 3.0)
    made = guidance.guided(told, conditions, weights, batched=batched, step=step)
    assert [call.passes for call in calls] == expected and {call.step for call in calls} == {step}
    assert torch.equal(made, guidance.guided(predict, conditions, weights, batched=batched))


def test_classifier_free_guidance() -> None:
    made = guidance.guided(
        predict, {"cond": PASSES["a"], "uncond": PASSES["b"]}, guidance.classifier_free(6), batched=True
    )
    cond, uncond = torch.sin(PASSES["a"]), torch.sin(PASSES["b"])
    torch.testing.assert_close(made, uncond + 6 * (cond - uncond))
    assert guidance.needed(guidance.classifier_free(1.0)) == ["cond"]


def test_a_scale_of_one_or_less_is_the_prompt_alone() -> None:
    for scale in (0.5, 1.0):
        assert guidance.needed(guidance.text_weights(scale)) == ["cond"]
