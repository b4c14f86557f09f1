"""The optimizers of a run: AdamW for all parameters, or Muon for the matrices inside of blocks and AdamW for the rest.

Muon makes every update of a matrix orthogonal, so directions with small gradients learn as fast as those with large
ones. Its update is scaled to the size of AdamW's, so that both take one learning rate.
Source: Jordan et al., "Muon" (2024); the scale from Liu et al., arXiv 2502.16982, section 2.2.
"""

from typing import Any, Literal

import torch
from torch import nn

Name = Literal["adamw", "muon"]


class Optimizers:
    """What changes the named parameters of a run.

    Args:
        name: "muon" takes matrices of modules whose name ends in "blocks"; "adamw" has everything.
        betas, eps: AdamW's.
        weight_decay: of everything with more than one dimension.
        fused: whether AdamW changes all parameters by one kernel, which needs a GPU.
    """

    def __init__(
        self,
        parameters: list[tuple[str, nn.Parameter]],
        *,
        name: Name,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        fused: bool,
    ) -> None:
        inner = [p for key, p in parameters if name == "muon" and p.dim() == 2 and "blocks." in key]
        taken = {id(p) for p in inner}
        outer = [p for _, p in parameters if id(p) not in taken]
        groups = [
            {"params": [p for p in outer if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in outer if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self._all: dict[str, torch.optim.Optimizer] = {
            "optimizer": torch.optim.AdamW(groups, betas=betas, eps=eps, fused=fused)
        }
        if inner:
            self._all["muon"] = torch.optim.Muon(inner, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, rate: float) -> None:
        """Change the parameters by their gradients at this learning rate."""
        for optimizer in self._all.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._all.values():
            optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """The state of each, by its name in a run's file."""
        return {name: optimizer.state_dict() for name, optimizer in self._all.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take what `state` gave.

        Raises:
            ValueError: the run was begun with other optimizers.
        """
        if missing := self._all.keys() ^ (state.keys() & {"optimizer", "muon"}):
            raise ValueError(
                f"This run was begun {'without' if missing & self._all.keys() else 'with'} Muon. "
                "Begin another from its export: --set start=FOLDER."
            )
        for name, optimizer in self._all.items():
            optimizer.load_state_dict(state[name])
