"""The networks of Phantom-physics: Wan 2.2's, and where a model has them the physics branch and V-JEPA 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from engines.inputs import Adapter
from engines.loading.networks import Fit, Network, check_fits, find_network
from engines.media.metadata import cheap_sha256
from engines.memory import activations
from engines.memory.fitting import Use, Working
from engines.memory.remembered import content_key
from engines.phantom_physics import latents as physics_latents
from engines.phantom_physics.checkpoint import SETTINGS, PhysicsSettings, architecture, settings_of
from engines.phantom_physics.encoder import VideoEncoder, pixel_values
from engines.phantom_physics.keys import VIDEO_ENCODER, VIDEO_PREDICTOR, VISUAL
from engines.phantom_physics.latents import PhysicsSpace
from engines.phantom_physics.sampling import Latents
from engines.phantom_physics.surprise import surprise_of
from engines.sampling import caches
from engines.sampling.finite import finite
from engines.types import Context
from engines.wan import vae
from engines.wan.components import WanModel

FITS = tuple(
    Fit(what, role, has, lambda found, name=name: found["physics"].config[name], wanted_by="physics")
    for what, role, has, name in (
        ("blocks", "transformer", lambda found: found["transformer"].config["num_layers"], "num_layers"),
        ("channels", "transformer", lambda found: width(found["transformer"]), "visual_width"),
        ("text channels", "transformer", lambda found: found["transformer"].config["text_dim"], "text_dim"),
        ("feature channels", "encoder", lambda found: found["encoder"].config["hidden_size"], "in_channels"),
    )
)


@dataclass(frozen=True)
class PhysicsModel:
    """The networks of one model, described but not loaded.

    Attributes:
        physics, encoder: None where the model has no branch, or it is not to run.
        predictor: V-JEPA 2 with what it expects to see, where a clip's surprise is to be measured.
        told: one sentence that says which of them make the clip.
    """

    wan: WanModel
    physics: Network | None
    encoder: Network | None
    settings: PhysicsSettings
    told: str
    predictor: Network | None = None

    @classmethod
    def find(
        cls,
        context: Context,
        *,
        with_physics: bool,
        surprised: bool = False,
        adapters: Sequence[Adapter] = (),
        step_cache: str = caches.NONE,
    ) -> PhysicsModel:
        """The model's files as the context has them; nothing is loaded.

        Args:
            with_physics: whether the branch is to run, where the model has one.
            surprised: whether the surprise of the clip is to be measured.
            adapters: of the pictures' transformer.
            step_cache: which steps the sampling leaves out, for people; no network has it on itself, for where the
                pictures' blocks are left out, the branch's are not called either.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of another network, or does not fit the others.
        """
        wan = WanModel.find(context, transformer_kind=VISUAL, adapters=adapters)
        wan = replace(wan, transformer=replace(wan.transformer, cache=caches.CACHES[step_cache].beside))
        if "physics" not in {weights.role for weights in context.model.weights}:
            return cls(wan, None, None, PhysicsSettings(), "Made by the base model alone: it has no physics branch.")
        # Another role than the encoder's: the same file, but another network in memory.
        predictor = find_network("predictor", context.paths("encoder"), VIDEO_PREDICTOR) if surprised else None
        paths = context.paths("physics")
        settings = settings_of(paths) if with_physics or surprised else PhysicsSettings()
        if not with_physics:
            told = "Made by the base model alone: the physics branch did not run."
            return cls(wan, None, None, settings, told, predictor)
        weights = tuple(path for path in paths if path.name != SETTINGS)
        physics = find_network("physics", weights, architecture(settings))
        encoder = find_network("encoder", context.paths("encoder"), VIDEO_ENCODER)
        check_fits({"transformer": wan.transformer, "physics": physics, "encoder": encoder}, FITS)
        told = "Pictures and physics were denoised together, by a physics branch trained with this project."
        return cls(wan, physics, encoder, settings, told, predictor)

    @property
    def warnings(self) -> list[str]:
        """What people should know of the checkpoint before they judge the clip, a sentence each."""
        if self.physics is None:
            return []
        told = [f'The physics checkpoint says "{name}", which this version does not know.' for name in self.unknown]
        base = self.wan.transformer.paths[0]
        known = cheap_sha256(base)
        if self.settings.base_sha256 and known and known != self.settings.base_sha256:
            told.append(f"The physics branch was trained beside another file than {base.name}: it may do harm.")
        return told

    @property
    def space(self) -> PhysicsSpace:
        """How frames become physics latents."""
        return self.settings.space

    @property
    def normalisation(self) -> str:
        """How features become latents."""
        return self.settings.encoder.normalisation

    @property
    def unknown(self) -> list[str]:
        """What the checkpoint says that this version does not know."""
        return self.settings.unknown if self.physics is not None else []

    def denoiser(self, context: Context, tokens: int, *, felt: int = 0) -> Use:
        """The pictures' transformer, and the memory of a pass over `tokens` tokens with timesteps of their own.

        Args:
            felt: tokens of the branch at the same time, which must have room beside it.
        """
        branch = self.physics.least_bytes(context, _working(self.physics, felt)) if self.physics is not None else 0
        return self.wan.transformer.planned(context, _working(self.wan.transformer, tokens), beside=branch)

    def branch(self, context: Context, tokens: int) -> Use:
        """The physics branch, likewise."""
        assert self.physics is not None
        return self.physics.planned(context, _working(self.physics, tokens))

    def given(self, context: Context, frames: np.ndarray) -> Latents:
        """Given frames uint8 [k,H,W,3] -> their latents alone, remembered; the physics' not yet in their statistics."""
        content = (frames.shape, frames.tobytes())
        height, width = frames.shape[1:3]
        component, room = self.wan.encoder(context, width=width, height=height, frames=len(frames))

        def look() -> torch.Tensor:
            video = torch.from_numpy(frames.astype(np.float32)).permute(3, 0, 1, 2)[None] / 255 * 2 - 1
            with context.use(component, working_bytes=room) as network:
                return vae.encode(network, video)[0].cpu()

        seen = context.remember(content_key("frames", component.key, *content), look)
        if self.encoder is None:
            return Latents(seen)
        eyes, eyes_room = self.encoder.planned(context, self._encoding_bytes(self.encoder))

        def feel() -> torch.Tensor:
            with context.use(eyes, working_bytes=eyes_room) as network:
                return finite(self._features(network, frames), role="encoder")

        return Latents(seen, context.remember(content_key("physics", eyes.key, self.space, *content), feel))

    def _features(self, encoder: VideoEncoder, frames: np.ndarray) -> torch.Tensor:
        return physics_latents.encode(encoder, frames, self.space)

    def square(self, frames: np.ndarray) -> torch.Tensor:
        """Frames uint8 [T,H,W,3] as V-JEPA 2 sees them, [3,T,size,size]."""
        return pixel_values(frames, size=self.space.size, resize=self.space.resize)

    def surprise(self, context: Context, video: torch.Tensor) -> float:
        """How much of a clip, as `square` gives it, was not expected: see engines.phantom_physics.surprise."""
        assert self.predictor is not None
        component, room = self.predictor.planned(context, self._encoding_bytes(self.predictor))
        with context.use(component, working_bytes=room) as network:
            return surprise_of(network, video, self.space)

    def _encoding_bytes(self, encoder: Network) -> Callable[[int], int]:
        """Activations of one window, by the bytes of a number."""
        tokens = self.space.max_frames // 2 * (self.space.size // encoder.config.get("patch_size", 16)) ** 2
        return lambda itemsize: activations.video_encoder(encoder.config, tokens=tokens, itemsize=itemsize)


def width(network: Network) -> int:
    """Channels of a transformer's states."""
    return int(network.config["num_attention_heads"] * network.config["attention_head_dim"])


def _working(network: Network, tokens: int) -> Working:
    def working(itemsize: int) -> int:
        return activations.wan_transformer(network.config, tokens=tokens, itemsize=itemsize, own_timesteps=True)

    return working
