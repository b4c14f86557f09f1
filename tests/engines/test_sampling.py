"""The schedules are the reference's, and the loop walks them."""

import warnings

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from engines.errors import NotFinite
from engines.sampling.denoise import SOLVERS, SamplingStep, denoise, dpm_plus_plus, unipc
from engines.sampling.finite import finite


def test_unipc_walks_the_published_grid() -> None:
    scheduler = unipc(50, shift=5.0)
    assert scheduler.timesteps.tolist()[:5] == [999, 995, 991, 987, 982]
    assert scheduler.timesteps.tolist()[-4:] == [302, 241, 172, 92]
    expected = torch.tensor([0.9998, 0.995732, 0.99153])
    torch.testing.assert_close(scheduler.sigmas[:3], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(scheduler.sigmas[-3:], torch.tensor([0.172265, 0.092507, 0.0]), atol=1e-6, rtol=0)


def test_dpm_plus_plus_begins_at_pure_noise() -> None:
    scheduler = dpm_plus_plus(6, shift=5.0)
    assert scheduler.sigmas[0] == 1 and scheduler.sigmas[-1] == 0 and len(scheduler.sigmas) == 7
    assert scheduler.timesteps[0] == 1000


def test_dpm_plus_plus_needs_nothing_else_of_set_timesteps() -> None:
    ours = dpm_plus_plus(6, shift=3.0)
    theirs = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, inside diffusers
        theirs.set_timesteps(6)
    theirs.set_begin_index(0)
    changed = {"sigmas", "timesteps", "_internal_dict"}
    for name, value in vars(theirs).items():
        if name not in changed and not isinstance(value, torch.Tensor):
            assert vars(ours)[name] == value, name


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_a_perfect_network_is_solved_exactly(solver: str, steps: int) -> None:
    """The exact velocity of one clean sample: every step aims at it and the last one arrives."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 3, 2, 2, generator=generator)
    scheduler = SOLVERS[solver](steps, shift=5.0)
    sigma = scheduler.sigmas[0]
    states = list(denoise((1 - sigma) * clean + sigma * noise, scheduler, lambda latents, t: noise - clean))
    assert [state.index for state in states] == list(range(1, steps + 1))
    assert {state.total for state in states} == {steps}
    torch.testing.assert_close(states[-1].latents, clean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states[0].clean, clean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_network_is_told_the_step_it_is_called_for(solver: str) -> None:
    scheduler = SOLVERS[solver](4, shift=3.0)
    told = []

    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        told.append(SamplingStep.of(scheduler))
        return latents

    list(denoise(torch.ones(1, 1, 1, 1), scheduler, predict))
    assert [(step.index, step.total) for step in told] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [step.sigma for step in told] == scheduler.sigmas[:-1].tolist()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", [0, 2])
def test_the_loop_stops_at_the_first_step_that_is_not_finite(value: float, at: int) -> None:
    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        velocity = torch.ones_like(latents)
        velocity[0, 0, 0, 1] = value if len(done) == at else 0
        return velocity

    done: list[int] = []
    with pytest.raises(NotFinite, match=rf"^The transformer made numbers that are not finite at step {at + 1} of 4"):
        for state in denoise(torch.ones(1, 1, 1, 2), unipc(4, shift=5.0), predict):
            done.append(state.index)
    assert done == list(range(1, at + 1))


def test_large_numbers_of_a_small_type_are_finite() -> None:
    values = torch.full((4_096,), 60_000.0, dtype=torch.float16)
    assert finite(values, role="vae") is values


def test_a_closed_loop_calls_the_network_no_more() -> None:
    calls = []

    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        calls.append(int(timestep))
        return latents

    states = denoise(torch.ones(1, 1, 1, 1), unipc(8, shift=5.0), predict)
    next(states)
    next(states)
    states.close()
    assert len(calls) == 2
