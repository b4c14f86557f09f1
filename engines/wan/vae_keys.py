"""The Wan video autoencoders (2.1 and 2.2) and how their tensors are named: by their authors, and by diffusers.

Source of the published names: Wan2.1 wan/modules/vae.py and Wan2.2 wan/modules/vae2_2.py, class WanVAE_.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from diffusers import AutoencoderKLWan

from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Renames, Shapes

# Mean and deviation of the 48 latent channels of Wan 2.2; those of the 16 of Wan 2.1 are the class's own defaults.
WAN22_STATISTICS = {
    "latents_mean": [
        -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
        0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
        -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
        -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
    ],
    "latents_std": [
        0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
        0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
        0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
        0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
    ],
}  # fmt: skip

BLOCK: Renames = (
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)
ENDS: Renames = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"^(encoder|decoder)\.head\.0\.", r"\1.norm_out."),
    (r"^(encoder|decoder)\.head\.2\.", r"\1.conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
)


def wan21_renames(keys: Iterable[str]) -> Renames:
    """The decoder's blocks stand in one row in the file; each stage of the class takes as many as stand before and at
    the first upsampling."""
    upsampling = [re.match(r"decoder\.upsamples\.(\d+)\.(?:resample|time_conv)\.", key) for key in keys]
    stage = 1 + min((int(found[1]) for found in upsampling if found), default=10**6)

    def block(found: re.Match[str]) -> str:
        index, place = divmod(int(found[1]), stage)
        part = "upsamplers.0" if place == stage - 1 else f"resnets.{place}"
        return f"decoder.up_blocks.{index}.{part}."

    rows: Renames = ((r"^encoder\.downsamples\.", "encoder.down_blocks."), (r"^decoder\.upsamples\.(\d+)\.", block))
    return ENDS + rows + BLOCK


WAN21 = Layout(
    name="Wan 2.1",
    signature=(r"conv1\.weight", r"encoder\.downsamples\.0\.residual\..*", r"decoder\.upsamples\.0\.residual\..*"),
    renames=wan21_renames,
)
WAN22 = Layout(
    name="Wan 2.2",
    signature=(r"conv1\.weight", r"encoder\.downsamples\.0\.downsamples\..*", r"decoder\.upsamples\.0\.upsamples\..*"),
    renames=(
        *ENDS,
        (r"^encoder\.downsamples\.(\d+)\.", r"encoder.down_blocks.\1."),
        (r"^decoder\.upsamples\.(\d+)\.", r"decoder.up_blocks.\1."),
        (r"\.(down|up)samples\.\d+\.(resample|time_conv)\.", r".\1sampler.\2."),
        (r"\.(down|up)samples\.", ".resnets."),
        *BLOCK,
    ),
)
DIFFUSERS = Layout(
    name="diffusers",
    signature=(r"quant_conv\.weight", r"encoder\.conv_in\.weight", r"decoder\.up_blocks\.0\.resnets\.0\.norm1\.gamma"),
)


def configure(shapes: Shapes) -> dict[str, Any]:
    """Arguments of AutoencoderKLWan from parameter shapes, for any number of stages and blocks."""
    residual = "encoder.down_blocks.0.resnets.0.norm1.gamma" in shapes
    stages = _stages(shapes, residual=residual)
    base, channels = shapes["encoder.conv_in.weight"][:2]
    z_dim = shapes["post_quant_conv.weight"][0]
    multipliers = [width // base for width, _, _ in stages]
    temporal = [halves_time for _, _, halves_time in stages[:-1]]
    patch = 2 if channels == 12 else 1
    config = {
        "base_dim": base,
        "decoder_base_dim": shapes["decoder.norm_out.gamma"][0] // multipliers[0],
        "z_dim": z_dim,
        "dim_mult": multipliers,
        "num_res_blocks": stages[0][1],
        "temperal_downsample": temporal,
        "is_residual": residual,
        "in_channels": channels,
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "patch_size": patch if patch > 1 else None,
        "scale_factor_temporal": 2 ** sum(temporal),
        "scale_factor_spatial": patch * 2 ** len(temporal),
    }
    if z_dim == len(WAN22_STATISTICS["latents_mean"]):
        return config | WAN22_STATISTICS
    if z_dim != 16:
        raise ValueError(f"no published statistics for {z_dim} latent channels")
    return config


def _stages(shapes: Shapes, *, residual: bool) -> list[tuple[int, int, bool]]:
    """(width, residual blocks, whether it halves time) of every stage of the encoder."""
    if residual:
        count = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.down_blocks."))
        blocks = [f"encoder.down_blocks.{index}" for index in range(count)]
        return [
            (
                shapes[f"{block}.resnets.0.conv2.weight"][0],
                sum(name.startswith(f"{block}.resnets.") and name.endswith(".conv2.weight") for name in shapes),
                f"{block}.downsampler.time_conv.weight" in shapes,
            )
            for block in blocks
        ]
    stages, width, blocks, index = [], 0, 0, 0
    while True:
        block = f"encoder.down_blocks.{index}"
        if conv := shapes.get(f"{block}.conv2.weight"):
            width, blocks = conv[0], blocks + 1
        elif f"{block}.resample.1.weight" in shapes:
            stages.append((width, blocks, f"{block}.time_conv.weight" in shapes))
            blocks = 0
        else:
            return [*stages, (width, blocks, False)]
        index += 1


VAE = Architecture(
    title=families.WAN_AUTOENCODER,
    class_name="AutoencoderKLWan",
    construct=lambda config: AutoencoderKLWan(**config),
    configure=configure,
    layouts=(WAN21, WAN22, DIFFUSERS),
    precisions=("float32",),
    makeshifts=("bfloat16",),
)
