"""What the models on Wan 2.1 share: files, sizes and defaults, of those published and of the starters. No torch."""

from __future__ import annotations

from engines.parameters import presets
from engines.types import Geometry, Weights

WAN_T2V_1_3B = "Wan-AI/Wan2.1-T2V-1.3B"

# Everything but the transformer, as Wan 2.1 was published.
PUBLISHED = (
    Weights("vae", ("Wan2.1_VAE.pth",), WAN_T2V_1_3B, 507_609_880),
    Weights("text_encoder", ("models_t5_umt5-xxl-enc-bf16.pth",), WAN_T2V_1_3B, 11_361_920_418),
    Weights(
        "tokenizer",
        tuple(
            f"google/umt5-xxl/{name}"
            for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
        ),
        WAN_T2V_1_3B,
        21_400_000,
    ),
)
# The English translation of its negative prompt, which the systems built on diffusers were published with, character
# for character.
NEGATIVE_ENGLISH = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn "
    "hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, "
    "three legs, many people in the background, walking backwards"
)


def published_geometry(*sizes: tuple[int, int], max_frames: int) -> Geometry:
    """Clips of the published models: any size up to 720p, `sizes` are the choices of the page."""
    return Geometry(sizes=sizes, multiple=16, max_pixels=1280 * 720, frame_stride=4, max_frames=max_frames)


STARTER_DEFAULTS = {"width": 96, "height": 64, "frames": 33, "fps": 12, "steps": 20}
STARTER_PRESETS = presets(10, 20, 40)

# What reads the prompt in every starter.
STARTER_TEXT = (
    Weights("text_encoder", ("starter/text_encoder.safetensors",), size_bytes=930_000),
    Weights("tokenizer", ("starter/tokenizer/tokenizer.json", "starter/tokenizer/tokenizer_config.json")),
)
STARTER_NOTE = (
    "A small demonstration model trained by this project on a world of simple moving shapes; "
    "it shows how the engine works, not what it can do at full size."
)
