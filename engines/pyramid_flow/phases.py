"""Which networks of Pyramid Flow a clip uses when, and in which manners; the run books the same. Imports no torch.

A picture larger than a tile is decoded in tiles, and what the autoencoder remembers of each from unit to unit is large.
It stays on the device where the network that makes the units has room beside it, and waits in RAM where not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engines.memory import activations
from engines.pyramid_flow.sizes import CLIP_LEN, PATCH, TEXT_LEN, TILE, most_tokens, space
from engines.pyramid_flow.storyboard import units_of
from engines.sampling import guidance
from engines.types import Need, Phase

if TYPE_CHECKING:
    from engines.pyramid_flow.spec import PyramidFlowRequest

Working = Callable[[int], int]
IN_RAM = "with tiles in RAM"


def scales(request: PyramidFlowRequest) -> tuple[float, float]:
    """Guidance of a clip's first unit and of the later ones: off for the first, it is off for all (as published)."""
    return request.guidance, request.video_guidance if request.guidance else 0.0


def passes(request: PyramidFlowRequest) -> int:
    """How often the network runs in a step with guidance."""
    return max(len(guidance.needed(guidance.off_at_zero(scale))) for scale in scales(request))


def making(
    config: Mapping[str, Any], vae: Mapping[str, Any], request: PyramidFlowRequest, *, text_len: int, device: str
) -> dict[str, Working]:
    """The manners of the network that makes a clip's units.

    Args:
        text_len: tokens of a prompt at most.
        device: its kind; where that is RAM itself, tiles could wait nowhere else.
    """
    grain, wide, high = space(vae), request.width, request.height
    frame = (high // grain) * (wide // grain) // PATCH**2
    units = units_of(request.frames)
    tokens = most_tokens(frame, units=units, passes=passes(request), text=text_len)
    kept, one = activations.pyramid_remembered(vae, wide=wide, high=high, tile=TILE)

    def working(itemsize: int) -> int:
        return activations.pyramid_transformer(config, tokens=tokens, itemsize=itemsize)

    def beside(
        itemsize: int,
    ) -> int:  # on a processor the small autoencoder computes in float32, whatever this one does
        return working(itemsize) + kept * (4 if device == "cpu" else itemsize)

    return {"": beside, IN_RAM: working} if device == "cuda" and kept > one else {"": beside}


def decoding(
    config: Mapping[str, Any], *, wide: int, high: int, device: str, parked: bool = False
) -> dict[str, Working]:
    """The manners of the autoencoder while it decodes a unit.

    Args:
        parked: whether its tiles wait in RAM in any case.
    """
    kept, one = activations.pyramid_remembered(config, wide=wide, high=high, tile=TILE)

    def working(itemsize: int) -> int:
        return activations.pyramid_coder(config, wide=wide, high=high, tile=TILE, itemsize=itemsize)

    if parked:
        return {IN_RAM: working}

    def beside(itemsize: int) -> int:
        return working(itemsize) + (kept - one) * itemsize

    return {"": beside, IN_RAM: working} if device == "cuda" and kept > one else {"": beside}


def phases(request: PyramidFlowRequest, outlines: Mapping[str, Any], device: str) -> tuple[Phase, ...]:
    """What a clip uses when: see EngineSpec."""
    size = {"wide": request.width, "high": request.height, "device": device}
    transformer, vae = outlines["transformer"], outlines["vae"]

    def need(role: str, formula: Callable[..., int], **told: int) -> Need:
        return Need(role, {"": lambda itemsize: formula(outlines[role].config, **told, itemsize=itemsize)})

    clips = [need(role, activations.clip_text, tokens=CLIP_LEN) for role in ("clip", "clip_2") if role in outlines]
    text_len = int(transformer.facts.get("text_len", TEXT_LEN))
    made = making(transformer.config, vae.config, request, text_len=text_len, device=device)
    return (
        Phase("Reading the prompt", (need("text_encoder", activations.text_encoder, tokens=text_len),)),
        *(Phase("Reading the prompt", (clip,)) for clip in clips),
        Phase("Making the video", (Need("transformer", made),)),
        Phase("Decoding", (Need("vae", decoding(vae.config, **size)),)),
    )
