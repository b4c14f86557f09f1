"""The force variant of Phantom-physics: a physics branch learns to feel a force drawn on the first frame.

A fine-tuning of a branch that engines.training phantom-physics made (`branch`): the force's embeddings start at zero,
branch and couplings go on, the pictures' network stays frozen, and exactly one frame is given.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from engines.loading.checkpoints import load, open_checkpoint
from engines.phantom_physics.checkpoint import architecture, settings_of
from engines.wan.strides import spatial_stride

from ..forces import PushedVideos, controls
from . import phantom_physics
from .phantom_physics import PhysicsRecipe, PhysicsTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForceRecipe(PhysicsRecipe):
    """Settings of the run; `branch` is the file of a trained branch, "" for a fresh one."""

    branch: str = "runs/phantom-physics/export/phantom-physics/physics.safetensors"
    takes_force: bool = True

    def videos(self, tokenizer: Path, **_: Any) -> PushedVideos:
        """Clips of the filtered videos with the forces in them."""
        return PushedVideos(Path(self.samples), tokenizer, **self.batches)


RECIPE = ForceRecipe(
    **{
        field.name: getattr(phantom_physics.RECIPE, field.name)
        for field in dataclasses.fields(phantom_physics.RECIPE)
        if field.name not in ("name", "steps", "takes_force", "learning_rate")
    },
    name="phantom-force",
    steps=5000,
    learning_rate=1e-5,
)


class ForceTask(PhysicsTask):
    """Trains the branch, its couplings and the embeddings of a force."""

    def __init__(self, recipe: ForceRecipe) -> None:
        super().__init__(recipe)
        if recipe.branch:
            path = Path(recipe.branch)
            trained = load(open_checkpoint([path]), architecture(settings_of([path])), dtype=torch.float32)
            _begin_from(self.branch, trained.state_dict(), path.name)
            self.targets.measured = True  # with the trained branch
        self.kinds = list(self.dataset().ranges)

    def given(self, count: int, frames: int, rng: torch.Generator) -> list[int]:
        """One frame of each clip: the one that the force is drawn on."""
        return [1] * count

    def control(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The drawn forces of a batch, for the two branches."""
        video, stride = batch["video"], spatial_stride(self.vae.config)
        frames, height, width = video.shape[2:]
        return controls(
            batch["force"],
            width=width,
            height=height,
            frames=frames,
            latent=(height // stride, width // stride),
            physics_side=self.recipe.space.side(),
        )

    def described(self) -> dict[str, Any]:
        """The kinds of force that it learned."""
        return {"force": {"kinds": self.kinds}}


def _begin_from(branch: torch.nn.Module, trained: dict[str, torch.Tensor], name: str) -> None:
    """Take a trained branch's weights; a force's embeddings, where it has none, stay as they are."""
    ours = branch.state_dict()
    wrong = [key for key, value in trained.items() if key not in ours or ours[key].shape != value.shape]
    wrong += [key for key in ours if key not in trained and not key.startswith("force.")]
    if wrong:
        raise ValueError(f"{name} is another branch than this recipe's: set its sizes as that was trained.")
    branch.load_state_dict(ours | trained)


def build(recipe: ForceRecipe) -> ForceTask:
    """The task of this recipe."""
    return ForceTask(recipe)


dry_run = phantom_physics.dry_run
