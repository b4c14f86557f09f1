"""What the published models on Wan share: files, sizes, quality choices and negative prompts. Imports no torch."""

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
PUBLISHED_PRESETS = presets(25, 50, 80)

# The negative prompt that Wan and Phantom were published with (sample_neg_prompt), character for character.
NEGATIVE_CHINESE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，"
    "倒着走"
)
# Its English translation, which the systems built on diffusers were published with, likewise.
NEGATIVE_ENGLISH = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn "
    "hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, "
    "three legs, many people in the background, walking backwards"
)


def published_geometry(*sizes: tuple[int, int], max_frames: int) -> Geometry:
    """Clips of the published models: any size up to 720p, `sizes` are the choices of the page."""
    return Geometry(sizes=sizes, multiple=16, max_pixels=1280 * 720, frame_stride=4, max_frames=max_frames)
