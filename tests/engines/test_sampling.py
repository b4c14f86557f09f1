"""The schedules are the reference's, and the loop walks them."""

import warnings

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from engines.sampling.denoise import SOLVERS, denoise, dpm_plus_plus, unipc


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
