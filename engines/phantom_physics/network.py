"""The physics branch: a second Wan transformer, over physics latents, coupled with a visual one block by block.

The visual transformer stays the published network, weights and forward pass: while a branch is joined to it, what its
block N gives as self-attention goes to the branch, which runs its own block N, and comes back with what it heard.
Source of the design: docs/phantom_physics.md; the paper (arXiv 2604.08503) has neither code nor weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import WanTransformer3DModel
from torch import nn
from torch.utils.hooks import RemovableHandle

from engines.errors import IncompatibleCheckpoint
from engines.phantom_physics.coupling import Coupling, Grid, physics_coordinates, rotations, visual_coordinates

CONTROL_CHANNELS = 3  # of a drawn force: see engines.phantom_physics.force

Turns = dict[str, tuple[torch.Tensor, torch.Tensor] | None]


@dataclass
class _Pass:
    """One forward pass: what the blocks share. `states[n]` enters the branch's block n."""

    words: torch.Tensor
    modulation: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]
    turns: Turns
    scale: float
    control: torch.Tensor | None
    states: list[torch.Tensor] = field(default_factory=list)


class ChannelStatistics(nn.Module):
    """Mean and deviation of each physics channel over the training clips, float32 [C]; not trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.std = nn.Parameter(torch.ones(channels), requires_grad=False)


class PhysicsBranch(WanTransformer3DModel):
    """The physics transformer and its couplings with a visual one of width `visual_width`.

    Args:
        visual_width: channels of the visual transformer's states.
        coupling_layers: "all", every n-th block, or a list of blocks.
        coupling_rope: "aligned", or "none": no rotary positions in the couplings.
        coupling_head_dim: channels of one head of the couplings.
        statistics: whether the file holds those of its channels.
        takes_force: whether a drawn force can be given.
        config: as of WanTransformer3DModel; channels are those of the physics latents.

    Raises:
        IncompatibleCheckpoint: the branch is too narrow for its channels, or its couplings name no block.
    """

    def __init__(
        self,
        *,
        visual_width: int,
        coupling_layers: str | int | Sequence[int] = "all",
        coupling_rope: Literal["aligned", "none"] = "aligned",
        coupling_head_dim: int = 128,
        statistics: bool = True,
        takes_force: bool = False,
        **config: Any,
    ) -> None:
        width = config["num_attention_heads"] * config["attention_head_dim"]
        needed = config["in_channels"] * math.prod(config["patch_size"])
        if width < needed:
            raise IncompatibleCheckpoint(
                f"A physics branch of width {width} cannot carry the noise of {needed} channels a token.",
                hint=f"Choose physics_dim of at least {needed}, or an encoder with fewer channels.",
            )
        coupled = coupled_blocks(coupling_layers, config["num_layers"])
        super().__init__(**config)
        self.register_to_config(
            visual_width=visual_width,
            coupling_layers=coupling_layers if isinstance(coupling_layers, str | int) else list(coupling_layers),
            coupling_rope=coupling_rope,
            coupling_head_dim=coupling_head_dim,
            statistics=statistics,
            takes_force=takes_force,
        )
        # Part of its block, so that both take turns on the device together.
        for number in coupled:
            self.blocks[number].coupling = Coupling(visual_width, width, head_dim=coupling_head_dim)
        self.physics_latents = ChannelStatistics(config["in_channels"]) if statistics else None
        if takes_force:
            self.force = nn.ModuleDict(
                {
                    "visual": nn.Conv3d(CONTROL_CHANNELS, visual_width, (1, 2, 2), stride=(1, 2, 2)),
                    "physics": nn.Conv3d(CONTROL_CHANNELS, width, 1),
                }
            )
            for layer in self.force.values():
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        self._pass: _Pass | None = None
        # How the visual tokens are shared by several devices: see engines/parallel/sequence.py.
        self.share: Any = None

    def join(self, visual: WanTransformer3DModel) -> list[RemovableHandle]:
        """Hooks the branch into the blocks of `visual` until the handles are removed.

        Raises:
            IncompatibleCheckpoint: the two do not fit together.
        """
        width = visual.config.num_attention_heads * visual.config.attention_head_dim
        if (width, len(visual.blocks)) != (self.config.visual_width, len(self.blocks)):
            raise IncompatibleCheckpoint(
                f"The physics branch was made for {len(self.blocks)} blocks of width {self.config.visual_width}; "
                f"the visual network has {len(visual.blocks)} of width {width}.",
                hint="Use the base model that the physics checkpoint was trained with.",
            )
        handles = [
            block.attn1.register_forward_hook(self._exchange(number)) for number, block in enumerate(visual.blocks)
        ]
        if self.config.takes_force:
            handles.append(visual.patch_embedding.register_forward_hook(self._push))
        return handles

    @contextmanager
    def joined(self, visual: WanTransformer3DModel) -> Iterator[PhysicsBranch]:
        """`join` for the length of the block; afterwards `visual` is as it was."""
        handles = self.join(visual)
        try:
            yield self
        finally:
            self._pass = None
            for handle in handles:
                handle.remove()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """For the length of the block, passes of the visual network are its own: the branch does not run."""
        kept, self._pass = self._pass, None
        try:
            yield
        finally:
            self._pass = kept

    def forward(
        self,
        visual: WanTransformer3DModel,
        latents: torch.Tensor,
        physics: torch.Tensor,
        *,
        timestep: torch.Tensor,
        physics_timestep: torch.Tensor,
        text: torch.Tensor,
        physics_scale: float = 1.0,
        control: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocities of both latents, from one pass through both networks; `visual` must be joined.

        Args:
            latents: visual [B,C,F,h,w].
            physics: [B,C',N,h',w'], normalised.
            timestep: of every visual token [B,L], 0 for those of given frames; `physics_timestep` likewise.
            text: padded text states [B,text_len,D], read by both.
            physics_scale: weight of what the picture hears from the physics.
            control: a drawn force as [B,3,F,h,w] and [B,3,N,h',w'], for branches that take one.
        """
        dtype = self.patch_embedding.weight.dtype
        embedded, modulation, words, _ = self.condition_embedder(
            physics_timestep.flatten(), text.to(dtype), timestep_seq_len=physics_timestep.shape[1]
        )
        tokens = self.patch_embedding(physics.to(dtype))
        if control is not None:
            tokens = tokens + self.force["physics"](control[1].to(dtype))
        self._pass = _Pass(
            words=words,
            modulation=modulation.unflatten(2, (6, -1)),
            rotary=self.rope(physics),
            turns=self._turns(visual, latents, physics),
            scale=physics_scale,
            control=None if control is None else control[0].to(dtype),
            states=[tokens.flatten(2).transpose(1, 2).contiguous()],
        )
        velocity = visual(
            hidden_states=latents.to(visual.patch_embedding.weight.dtype),
            timestep=timestep,
            encoder_hidden_states=text.to(visual.patch_embedding.weight.dtype),
            return_dict=False,
        )[0]
        return velocity, self._read_out(self._pass.states[len(self.blocks)], embedded, physics)

    def _exchange(self, number: int) -> Callable[..., torch.Tensor | None]:
        """What happens after the self-attention of visual block `number`."""
        own = self.blocks[number]
        coupling: Coupling | None = getattr(own, "coupling", None)

        def after_self_attention(_: nn.Module, __: Any, seen: torch.Tensor) -> torch.Tensor | None:
            run, heard = self._pass, []
            if run is None:  # another pass of the visual network, alone
                return None

            def before_the_gate(_: nn.Module, __: Any, felt: torch.Tensor) -> torch.Tensor:
                if coupling is None:
                    return felt
                asking, every = run.turns["visual"], seen
                if self.share is not None:
                    every = self.share.all(seen)
                    asking = asking and (self.share.mine(asking[0], dim=0), asking[1])
                heard.append(coupling.vis_attn(seen, felt, asking))
                return felt + coupling.phy_attn(felt, every, run.turns["physics"])

            handle = own.attn1.register_forward_hook(before_the_gate)
            try:
                states = own(run.states[number], run.words, run.modulation, run.rotary)
            finally:
                handle.remove()
            # By index, not appended: gradient checkpointing runs a block again.
            run.states[number + 1 :] = [states]
            return seen + run.scale * heard[0] if heard else seen

        return after_self_attention

    def _push(self, _: nn.Module, __: Any, tokens: torch.Tensor) -> torch.Tensor | None:
        """Adds a drawn force to the visual tokens."""
        if self._pass is None or self._pass.control is None:
            return None
        return tokens + self.force["visual"](self._pass.control).type_as(tokens)

    def _turns(self, visual: WanTransformer3DModel, latents: torch.Tensor, physics: torch.Tensor) -> Turns:
        """Rotations of both couplings: the asking side's, then the answering side's."""
        if self.config.coupling_rope == "none":
            return {"visual": None, "physics": None}
        patch = visual.config.patch_size
        seen = Grid(*(side // step for side, step in zip(latents.shape[2:], patch, strict=True)))
        felt = Grid(*(side // step for side, step in zip(physics.shape[2:], self.config.patch_size, strict=True)))
        ours, theirs = (
            rotations(coordinates, self.config.coupling_head_dim).to(latents.device)
            for coordinates in (visual_coordinates(seen), physics_coordinates(felt, visual=seen))
        )
        return {"visual": (ours, theirs), "physics": (theirs, ours)}

    def _read_out(self, states: torch.Tensor, embedded: torch.Tensor, physics: torch.Tensor) -> torch.Tensor:
        """The head, as the library's own forward has it: states [B,L,D] -> velocity like `physics`."""
        patch = self.config.patch_size
        shift, scale = (self.scale_shift_table.unsqueeze(0) + embedded.unsqueeze(2)).unbind(2)
        states = (self.norm_out(states.float()) * (1 + scale) + shift).type_as(states)
        grid = [side // step for side, step in zip(physics.shape[2:], patch, strict=True)]
        cells = self.proj_out(states).reshape(physics.shape[0], *grid, *patch, -1)
        return cells.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def coupled_blocks(layers: str | int | Sequence[int], count: int) -> list[int]:
    """Blocks that are coupled: "all" of `count`, every n-th, or those of a list.

    Raises:
        IncompatibleCheckpoint: it names no block, or one that is not there.
    """
    if layers == "all":
        return list(range(count))
    if isinstance(layers, int) and not isinstance(layers, bool) and layers > 0:
        return list(range(0, count, layers))
    if not isinstance(layers, str | int) and layers and all(0 <= number < count for number in layers):
        return sorted(set(layers))
    raise IncompatibleCheckpoint(
        f"coupling_layers is {layers!r}, which names no blocks of {count}.",
        hint='Write "all", a number of blocks between two couplings, or a list of blocks counted from 0.',
    )
