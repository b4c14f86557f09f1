"""How much memory one run of a network allocates beside its weights, from its configuration: formulas, in bytes.

`itemsize` is the bytes of a number in the precision that the network computes in. Each formula was counted under fake
tensors at published width: it is never below what a run allocates there and at most 1.4 times of it. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

# Bytes a channel of each token's own modulation, where tokens have timesteps of their own: in half precision, and twice
# in float32.
TIMESTEP_COPIES = 10
# Feature maps of full size and base width alive at once, in the autoencoders of Wan 2.1 and 2.2: while they decode a
# latent frame, the same with the frames of the last levels one after another, and while they encode one.
DECODING_MAPS = (13.0, 21.5)
APART_MAPS = (9.7, 14.2)
ENCODING_MAPS = (10.4, 12.6)
# Numbers alive at once for each token and channel in Pyramid Flow's networks: with single blocks (miniFLUX), without.
SINGLE_COPIES, JOINT_COPIES = 21.5, 15.5
# At which levels Pyramid Flow's autoencoder grows in space and in time, where a file does not say.
PYRAMID_GROWS = (True, True, True, False)
# Convolutions work in copies of their inputs: what an autoencoder was measured to take, against its tensors (on a GPU:
# docs/gpu.md).
WORKSPACE = {"cpu": 1.5, "cuda": 2.0}


def width(config: Config) -> int:
    """Channels of a transformer's tokens."""
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def wan_transformer(config: Config, *, tokens: int, itemsize: int, own_timesteps: bool = False) -> int:
    """A pass over `tokens` tokens in all: the feed-forward or the float32 modulation of one block, whichever is more.

    Args:
        own_timesteps: whether every token has a timestep of its own.
    """
    channels = width(config)
    block = 1.15 * tokens * itemsize * max(2 * config["ffn_dim"] + 4.5 * channels, 11.3 * channels)
    return int(block + (tokens * 6 * channels * TIMESTEP_COPIES if own_timesteps else 0))


def pyramid_transformer(config: Config, *, tokens: int, itemsize: int) -> int:
    """A call of Pyramid Flow's networks over `tokens` tokens in all."""
    copies = SINGLE_COPIES if config.get("num_single_layers") else JOINT_COPIES
    return int(tokens * copies * width(config) * itemsize)


def wan_decoder(config: Config, *, wide: int, high: int, itemsize: int, apart: bool = False, device: str = "") -> int:
    """An autoencoder of Wan while it decodes one latent frame of `wide` x `high` pixels, what it remembers included.

    Args:
        apart: whether the frames go through its last levels one after another.
    """
    base = config.get("decoder_base_dim") or config["base_dim"]
    stride = int(2 ** sum(config["temperal_downsample"]))
    return _maps(config, APART_MAPS if apart else DECODING_MAPS, stride * base * wide * high, itemsize, device)


def wan_encoder(config: Config, *, wide: int, high: int, frames: int, itemsize: int, device: str = "") -> int:
    """An autoencoder of Wan while it encodes `frames` frames of `wide` x `high` pixels; it takes a few at a time."""
    at_once = min(frames, int(2 ** sum(config["temperal_downsample"])))
    return _maps(config, ENCODING_MAPS, at_once * config["base_dim"] * wide * high, itemsize, device)


def pyramid_coder(config: Config, *, wide: int, high: int, tile: int, itemsize: int) -> int:
    """Pyramid Flow's autoencoder while it decodes one latent frame of eight, what it remembers included.

    Args:
        tile: side in pixels of the pieces that a larger picture is cut into.
    """
    return 16 * 8 * min(wide, tile) * min(high, tile) * int(config["decoder_block_out_channels"][0]) * itemsize


def pyramid_remembered(config: Config, *, wide: int, high: int, tile: int) -> tuple[int, int]:
    """Numbers that Pyramid Flow's autoencoder remembers between two latent frames: of all its tiles, and of one.

    The last two frames that each convolution over time has seen.
    """
    widths = [*config["decoder_block_out_channels"]][::-1]
    layers = config.get("decoder_layers_per_block", (3, 3, 3, 3))
    wider, longer = (config.get(f"decoder_{axis}_up_sample", PYRAMID_GROWS) for axis in ("spatial", "temporal"))
    share = 1 / 4 ** sum(wider)  # of the pixels, at the level of the latents
    each = share * 2 * (config["decoder_in_channels"] + 4 * widths[0])
    for level, (width, count) in enumerate(zip(widths, layers, strict=True)):
        each += share * 2 * (widths[max(0, level - 1)] + (2 * count - 1) * width + wider[level] * width)
        share *= 4 if wider[level] else 1
        each += share * 2 * width * longer[level]
    each += share * 2 * widths[-1]
    sides = [sum(min(tile, side - at) for at in range(0, side, tile * 3 // 4)) for side in (wide, high)]
    if max(wide, high) <= tile:
        sides = [wide, high]
    return int(each * sides[0] * sides[1]), int(each * min(wide, tile) * min(high, tile))


def text_encoder(config: Config, *, tokens: int, itemsize: int) -> int:
    """A UMT5 or T5 encoder while it reads a text: one block's worst moment."""
    channels = 4 * config["d_model"] + 2 * config["num_heads"] * config["d_kv"] + 4 * config["d_ff"]
    scores = 3 * config["num_heads"] * tokens
    return tokens * (channels + scores) * max(4, itemsize)  # norms and softmax compute in float32


def clip_text(config: Config, *, tokens: int, itemsize: int) -> int:
    """A CLIP text encoder while it reads a text of so many tokens."""
    channels = 8 * config["hidden_size"] + 2 * config["intermediate_size"]
    return tokens * (channels + 4 * config["num_attention_heads"] * tokens) * max(4, itemsize)


def chat(config: Config, *, tokens: int, patches: int, itemsize: int) -> int:
    """Qwen2.5-VL while it reads a chat of `tokens`, or looks at pictures of `patches` patches: the worse of both."""
    parts = ((config["text_config"], tokens), (config["vision_config"], patches))
    return max(count * (10 * part["hidden_size"] + 3 * part["intermediate_size"]) for part, count in parts) * itemsize


def video_encoder(config: Config, *, tokens: int, itemsize: int) -> int:
    """V-JEPA 2 over one window: attention's three states, the two of its feed-forward, and the residual."""
    return int(tokens * config["hidden_size"] * (8 + 2 * config.get("mlp_ratio", 4.0)) * itemsize)


def _maps(config: Config, maps: tuple[float, float], numbers: int, itemsize: int, device: str) -> int:
    """So many feature maps of an autoencoder, each of `numbers` numbers where it does not fold pixels into channels."""
    folded = config.get("patch_size") or 1
    residual = bool(config.get("is_residual"))
    return int(maps[residual] * WORKSPACE.get(device, 1.0) * numbers * itemsize / folded**2)
