"""A small V-JEPA 2 for the starter of Phantom-physics, pre-trained on simulated clips without any label.

The student sees some tokens of a clip and predicts, for those it does not see, the features that its own slow average
(the teacher) has of the whole clip. Every second batch hides blocks of the picture for the whole time, the others hide
everything from a moment on: what was expected to happen is what surprise is later measured against.
Source: V-JEPA 2 (arXiv 2506.09985) and facebookresearch/vjepa2 app/vjepa; sizes and masks are this project's.

Nine tokens of ten show the same empty ground, so that features which tell nothing but a token's place are nearly
always right: without help they came to that within 300 steps. Unusual tokens therefore count for more, and the
features of what is seen are kept apart as VICReg does (arXiv 2105.04906), once what is common to a place is taken away.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from engines.phantom_physics.encoder import build_encoder, in_statistics
from engines.phantom_physics.latents import TUBELET
from engines.phantom_physics.surprise import normed

from ..attention import written_out
from ..files import save_network
from ..physics_clips import PhysicsClips
from ..recipe import Recipe, Stage
from ..world import WorldConfig

FILE = "physics_encoder.safetensors"
CONFIG: dict[str, Any] = {
    "patch_size": 16, "crop_size": 64, "frames_per_clip": 34, "tubelet_size": TUBELET, "hidden_size": 64,
    "num_attention_heads": 2, "num_hidden_layers": 4, "pred_hidden_size": 64, "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 2, "pred_num_mask_tokens": 2,
}  # fmt: skip
FIRST_FUTURE = 2  # tubelets that are always seen before a moment


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """Settings of the run."""

    momentum: float = 0.998  # of the teacher
    common: float = 0.25  # share of the loss in which all tokens count alike; in the rest the unusual count for more
    spread: float = 0.5  # least deviation of a channel between clips
    spread_weight: float = 1.0
    covariance_weight: float = 0.05


RECIPE = EncoderRecipe(
    name="physics-encoder",
    steps=12_000,
    minutes=40.0,
    stages=(Stage(until=10**9, batch=16, world=WorldConfig(width=64, height=64)),),
    learning_rate=1e-3,
    betas=(0.9, 0.98),
    weight_decay=0.05,
    warmup=300,
)


class EncoderTask:
    """Masked prediction of latents."""

    def __init__(self, recipe: EncoderRecipe) -> None:
        self.recipe = recipe
        self.student = build_encoder(CONFIG, predicts=True)
        self.teacher = build_encoder(CONFIG).eval().requires_grad_(False)
        self._follow(0.0)
        self._step = 0

    def networks(self) -> dict[str, torch.nn.Module]:
        """The student with its predictor."""
        return {"encoder": self.student}

    def dataset(self) -> PhysicsClips:
        """Simulated clips; captions are not looked at."""
        return PhysicsClips(self.recipe)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Absolute error of the predicted features, and what keeps the features of different clips apart."""
        self._step, video = step, batch["video"]
        self.teacher.to(video.device)
        shown = in_statistics(torch.cat([video[:, :, :1], video], 2) / 2 + 0.5)
        grid = [side // part for side, part in zip(shown.shape[2:], (TUBELET, 16, 16), strict=True)]
        future = bool(step % 2)
        seen, hidden = (ids.to(video.device).expand(len(video), -1) for ids in draw_masks(grid, rng, future=future))
        with written_out(enabled=video.device.type == "cpu"):
            with torch.no_grad():
                features = normed(self.teacher(shown).float())
                wanted = features.gather(1, hidden[..., None].expand(-1, -1, features.shape[-1]))
            own = self.student.seen(shown, seen)
            expected = self.student.predict(own, seen, hidden)
        errors, unusual = (expected.float() - wanted).abs().mean(-1), _from_typical(wanted).abs().mean(-1)
        common = self.recipe.common
        weights = common + (1 - common) * unusual / unusual.mean().clamp_min(1e-6)
        alike, together = self._apart(own.float())
        loss = (errors * weights).mean() + self.recipe.spread_weight * alike + self.recipe.covariance_weight * together
        kind = "future" if future else "blocks"
        figures = {f"loss_{kind}": errors.detach().mean(), "unusual": unusual.mean(), "alike": alike.detach()}
        return loss, {name: float(value) for name, value in figures.items()}

    def _apart(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How far channels of features [B,N,D] vary too little between clips, and how much they vary together."""
        varied = _from_typical(normed(features)).flatten(0, 1)
        deviations = (varied.square().mean(0) + 1e-6).sqrt()
        covariance = varied.T @ varied / len(varied)
        together = (covariance - covariance.diag().diag()).square().sum() / len(covariance)
        return (self.recipe.spread - deviations).clamp_min(0).mean(), together

    def after_backward(self) -> dict[str, float]:
        """The teacher follows the student slowly, at first less so."""
        self._follow(min(self.recipe.momentum, (self._step + 1) / (self._step + 10)))
        return {}

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        student = dict(self.student.named_parameters())
        for name, value in self.teacher.named_parameters():
            value.lerp_(student[name].to(value.device), 1 - keep)

    def state(self) -> dict[str, Any]:
        """The teacher."""
        return {"teacher": self.teacher.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.teacher.load_state_dict(state["teacher"])

    def adopted(self) -> None:
        """After the student's weights came from a file: the teacher begins as they are."""
        self._follow(0.0)

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """Encoder and predictor in one file, by the names that transformers gives them."""
        save_network(
            folder / FILE, weights["encoder"], facts={"class": "VideoEncoder", "config": CONFIG, "recipe": record}
        )


def _from_typical(features: torch.Tensor) -> torch.Tensor:
    """Features [B,N,D] less what the clips of the batch have in common at a token's place and moment."""
    return features - features.mean(0, keepdim=True)


def draw_masks(grid: list[int], rng: torch.Generator, *, future: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the tokens that are seen and of those that are hidden, of a grid of tubelets, rows and columns."""
    count, rows, columns = grid
    hidden = torch.zeros(count, rows, columns, dtype=torch.bool)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=rng))

    if future:
        hidden[pick(FIRST_FUTURE, max(FIRST_FUTURE, count - 3)) :] = True
    else:
        high, wide = pick(rows // 2, rows), pick(columns // 2, columns - 1)
        top, left = pick(0, rows - high), pick(0, columns - wide)
        hidden[:, top : top + high, left : left + wide] = True
    flat = hidden.flatten()
    return torch.nonzero(~flat).T, torch.nonzero(flat).T


def build(recipe: EncoderRecipe) -> EncoderTask:
    """The task of this recipe."""
    return EncoderTask(recipe)
