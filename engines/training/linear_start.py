"""A linear code written into the weights of the causal autoencoder, so that training begins where the code ends.

Every resampling layer turns a region of pixels into its parts or back; at each size a region is held as its principal
components, as many as the layer has channels. Residual branches and attention start at zero. The two output norms
would take a frame's brightness away; a large constant channel in every group keeps their scale, and two channels
x and -x pass the nonlinearity unchanged, because silu(x) - silu(-x) = x. A video's first latent, which is coded
differently, and whatever is better than linear are left to training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engines.pyramid_flow.vae import CausalConv3d, CausalVideoVAE, DownBlock, FrameNorm, MidBlock, ResnetBlock, UpBlock

from .latents import BlockLatents

Shape = tuple[int, int, int]  # frames, rows, columns of a region
Join = Callable[[CausalConv3d, list[torch.Tensor]], None]

NOW = 2  # a causal kernel's last tap in time is the current frame
DECODER_CONSTANT, ENCODER_CONSTANT = 16.0, 64.0  # large against pixels and latents
LOG_VARIANCE = -12.0  # pictures are drawn from the posterior: -5 showed as grain


@dataclass(frozen=True)
class _Level:
    """How a region of `shape` is held: components [n, 3*frames*rows*columns], each times its `scale` [n]."""

    shape: Shape
    components: torch.Tensor
    scale: torch.Tensor


def _parts(rows: torch.Tensor, whole: Shape, shape: Shape) -> list[torch.Tensor]:
    """Rows [n, values of a `whole` region] cut into its parts, in order of time, row and column: [n, values] each."""
    regions = rows.unflatten(1, (3, *whole))
    frames, height, width = shape
    return [
        regions[:, :, t : t + frames, y : y + height, x : x + width].flatten(1)
        for t in range(0, whole[0], frames)
        for y in range(0, whole[1], height)
        for x in range(0, whole[2], width)
    ]


def _top(code: BlockLatents) -> _Level:
    return _Level((code.time, code.space, code.space), code.video_basis, code.scale)


def _level(code: BlockLatents, shape: Shape, channels: int) -> _Level:
    """The principal components of what the code can show in regions of `shape`."""
    if shape == (1, 1, 1):
        return _Level(shape, torch.eye(3), torch.ones(3))
    deviation = code.scale**-2 / code.scale.pow(-2).mean().sqrt()  # BlockLatents divides by its square root
    whole = _top(code).shape
    spread = _parts(code.video_basis * deviation[:, None], whole, shape)
    mean = _parts(code.video_mean[None], whole, shape)
    rows = torch.cat([*spread, *mean])
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(mean))
    count = min(channels, len(values))
    values, vectors = values.flip(0)[:count].clamp_min(0), vectors.flip(1)[:, :count]
    scale = values.clamp_min(values[0] * 1e-4) ** -0.25
    return _Level(shape, vectors.T.contiguous(), scale / (values.sqrt() * scale).square().mean().sqrt())


def _smaller(large: _Level, small: _Level) -> list[torch.Tensor]:
    """For each part of a large region the matrix from the large one's channels to the part's."""
    into = small.components * small.scale[:, None]
    return [into @ (part / large.scale[:, None]).T for part in _parts(large.components, large.shape, small.shape)]


def _larger(small: _Level, large: _Level) -> list[torch.Tensor]:
    """For each part the matrix from its channels to the large region's; their results add up."""
    back = small.components / small.scale[:, None]
    return [(part * large.scale[:, None]) @ back.T for part in _parts(large.components, large.shape, small.shape)]


def _clear(layer: CausalConv3d, outputs: slice | torch.Tensor) -> torch.nn.Conv3d:
    layer.conv.weight[outputs] = 0
    layer.conv.bias[outputs] = 0
    return layer.conv


def _pass_through(layer: CausalConv3d, matrix: torch.Tensor) -> None:
    """A layer that keeps its size: one matrix [out, in] at every pixel."""
    conv = _clear(layer, slice(len(matrix)))
    middle = conv.kernel_size[1] // 2
    conv.weight[: len(matrix), : matrix.shape[1], -1, middle, middle] = matrix


def _split(layer: CausalConv3d, matrices: list[torch.Tensor]) -> None:
    """An upsampler: its channel c*n + k is channel c of part k of n."""
    used = len(matrices[0]) * len(matrices)
    conv = _clear(layer, slice(used))
    conv.weight[:used, : matrices[0].shape[1], NOW, 1, 1] = torch.stack(matrices, 1).flatten(0, 1)


def _join_space(layer: CausalConv3d, matrices: list[torch.Tensor]) -> None:
    conv = _clear(layer, slice(len(matrices[0])))
    for place, matrix in enumerate(matrices):
        conv.weight[: len(matrix), : matrix.shape[1], NOW, 1 + place // 2, 1 + place % 2] = matrix


def _join_time(layer: CausalConv3d, matrices: list[torch.Tensor]) -> None:
    conv = _clear(layer, slice(len(matrices[0])))
    for place, matrix in enumerate(matrices):
        conv.weight[: len(matrix), : matrix.shape[1], 1 + place, 1, 1] = matrix


def _keep_scale(norm: FrameNorm, channels: torch.Tensor, constant: float, constants: int) -> None:
    """Undo the norm on `channels`, in whose groups that many channels are `constant` and the others average zero."""
    share = constants / (norm.num_channels // norm.num_groups)
    norm.weight[channels] = constant * (share - share**2) ** 0.5
    norm.bias[channels] = constant * share


def _growing(block: UpBlock) -> list[tuple[CausalConv3d, int]]:
    """The layers of a block that divide regions, in order, and into how many parts each does."""
    spatial, temporal = getattr(block, "upsamplers", ()), getattr(block, "temporal_upsamplers", ())
    return [*((one.conv, 4) for one in spatial), *((one.conv, 2) for one in temporal)]


def _shrinking(block: DownBlock) -> list[tuple[CausalConv3d, Join]]:
    """The layers of a block that join regions, in order, and how each is written."""
    spatial, temporal = getattr(block, "downsamplers", ()), getattr(block, "temporal_downsamplers", ())
    return [*((one.conv, _join_space) for one in spatial), *((one.conv, _join_time) for one in temporal)]


def _decoder(vae: CausalVideoVAE, code: BlockLatents) -> None:
    decoder, top = vae.decoder, _top(code)
    held = top
    _pass_through(vae.post_quant_conv, torch.eye(code.channels))
    _pass_through(decoder.conv_in, torch.eye(code.channels))
    for block in decoder.up_blocks:
        shortcut = block.resnets[0].conv_shortcut
        if shortcut is not None:
            narrow = _level(code, held.shape, shortcut.conv.out_channels)
            _pass_through(shortcut, _smaller(held, narrow)[0])
            held = narrow
        for layer, parts in _growing(block):
            length, side, _ = held.shape
            shape = (length // 2, side, side) if parts == 2 else (length, side // 2, side // 2)
            small = _level(code, shape, layer.conv.out_channels // parts)
            matrices = _smaller(held, small)
            if shape == (1, 1, 1):
                _pixels_out(decoder, layer, matrices)
            else:
                _split(layer, matrices)
            if held is top:
                means = _parts(code.video_mean[None], held.shape, shape)
                offsets = torch.stack([small.scale * (small.components @ mean[0]) for mean in means], 1)
                layer.conv.bias[: offsets.numel()] = offsets.flatten()
            held = small


def _pixels_out(decoder: torch.nn.Module, last: CausalConv3d, halves: list[torch.Tensor]) -> None:
    """Groups of three channels: a colour, its negative, a constant; groups beyond the colours hold only the last."""
    norm = decoder.conv_norm_out
    size = norm.num_channels // norm.num_groups
    colours = torch.arange(3) * size
    for half, matrix in enumerate(halves):
        for channel, sign in ((colours, 1.0), (colours + 1, -1.0)):
            conv = _clear(last, 2 * channel + half)
            conv.weight[2 * channel + half, : matrix.shape[1], NOW, 1, 1] = sign * matrix
        constant = 2 * (torch.arange(norm.num_groups) * size + 2) + half
        _clear(last, constant).bias[constant] = DECODER_CONSTANT
    _keep_scale(norm, torch.cat([colours, colours + 1]), DECODER_CONSTANT, 1)
    conv = _clear(decoder.conv_out, slice(3))
    conv.weight[torch.arange(3), colours, NOW, 1, 1] = 1
    conv.weight[torch.arange(3), colours + 1, NOW, 1, 1] = -1


def _encoder(vae: CausalVideoVAE, code: BlockLatents) -> None:
    encoder, top = vae.encoder, _top(code)
    held = _level(code, (1, 1, 1), 3)
    _pass_through(encoder.conv_in, torch.eye(3))
    for block in encoder.down_blocks:
        shortcut = block.resnets[0].conv_shortcut
        if shortcut is not None:
            _pass_through(shortcut, torch.eye(len(held.scale)))
        for layer, join in _shrinking(block):
            length, side, _ = held.shape
            shape = (2 * length, side, side) if join is _join_time else (length, 2 * side, 2 * side)
            large = top if shape == top.shape else _level(code, shape, layer.conv.out_channels)
            matrices, held = _larger(held, large), large
            if held is top:
                _latents_out(vae, layer, matrices, -code.scale * (code.video_basis @ code.video_mean))
            else:
                join(layer, matrices)


def _latents_out(vae: CausalVideoVAE, last: CausalConv3d, halves: list[torch.Tensor], offset: torch.Tensor) -> None:
    """Each of the norm's groups: a share of the latents, each followed by its negative, then constants."""
    norm, count = vae.encoder.conv_norm_out, len(offset)
    size = norm.num_channels // norm.num_groups
    share = -(-count // norm.num_groups)
    constants = size - 2 * share
    if constants < 1:
        raise ValueError(f"A last level of {norm.num_channels} channels has no room for {count} latents.")
    number = torch.arange(count)
    places = number // share * size + number % share * 2
    for channel, sign in ((places, 1.0), (places + 1, -1.0)):
        conv = _clear(last, channel)
        for tap, matrix in enumerate(halves):
            conv.weight[channel, : matrix.shape[1], 1 + tap, 1, 1] = sign * matrix
        conv.bias[channel] = sign * offset
    constant = (torch.arange(norm.num_groups)[:, None] * size + torch.arange(2 * share, size)).flatten()
    _clear(last, constant).bias[constant] = ENCODER_CONSTANT
    _keep_scale(norm, torch.cat([places, places + 1]), ENCODER_CONSTANT, constants)
    conv = _clear(vae.encoder.conv_out, slice(count))
    conv.weight[number, places, NOW, 1, 1] = 1
    conv.weight[number, places + 1, NOW, 1, 1] = -1
    _pass_through(vae.quant_conv, torch.eye(2 * count))
    vae.quant_conv.conv.weight[count:] = 0
    vae.quant_conv.conv.bias[count:] = LOG_VARIANCE


def write_code(vae: CausalVideoVAE, code: BlockLatents) -> None:
    """Make a fresh starter-size autoencoder encode and decode as the code does, first latents excepted.

    Args:
        vae: its blocks divide a code's block down to a pixel, time last; groups of three channels at the decoder's
            end, of more than twice their share of the latents at the encoder's.
    """
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, ResnetBlock):
                _clear(module.conv2, slice(None))
            if isinstance(module, MidBlock):
                module.attentions[0].to_out[0].weight.zero_()
                module.attentions[0].to_out[0].bias.zero_()
        _decoder(vae, code)
        _encoder(vae, code)
