"""The causal video autoencoder of Pyramid Flow: 8 x 8 pixels and 8 frames become one latent; one frame stays one.

No class of diffusers has this layout: causal convolutions that pad with zeros, group norms frame by frame, pixel and
frame shuffles. Videos are [B,3,8n+1,H,W] in [-1,1], latents [B,C,n+1,H/8,W/8], neither shifted nor scaled; a
configuration may halve space fewer times.
Every causal layer takes a Cache: with one, a video goes through in pieces and gives the same numbers as in one.

Source: Pyramid-Flow video_vae/modeling_causal_vae.py, modeling_enc_dec.py, modeling_block.py, modeling_resnet.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn.functional import conv3d, pad, silu

NORM_EPS = 1e-6

# The last frames that each convolution over time has seen; empty before a video's first piece.
Cache = dict["CausalConv3d", torch.Tensor]


class Convolution(nn.Conv3d):
    """A convolution with zeros around in space and none in time, computed the quickest way that its device has."""

    def forward(self, video: torch.Tensor, *, alone: bool = False) -> torch.Tensor:
        """[B,C,T,H,W] -> [B,out,...].

        Args:
            alone: the video is one frame with nothing but zeros before it, which weigh nothing.
        """
        weight = self.weight[:, :, -1:] if alone else self.weight
        border = self.kernel_size[1] // 2
        around = (0, border, border)
        if video.device.type != "cpu":
            return conv3d(video, weight, self.bias, self.stride, around)
        # Small videos go to a slower kernel by themselves, and that is slower yet where it also has to pad.
        if video.dtype == torch.float32 and torch.backends.mkldnn.is_available() and not torch.is_grad_enabled():
            return torch.mkldnn_convolution(video, weight, self.bias, around, self.stride, self.dilation, 1)
        return conv3d(pad(video, (border,) * 4) if border else video, weight, self.bias, self.stride)


class CausalConv3d(nn.Module):
    """A convolution that sees no later frame: zeros, or the piece before, stand in front; zeros around in space."""

    def __init__(self, channels: int, out: int, *, kernel: int = 3, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = Convolution(channels, out, kernel, stride)
        self.front = kernel - 1
        self.kept = kernel - stride[0]  # the frames that the next piece's first window still covers

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        """[B,C,T,H,W] -> [B,out,ceil(T/stride),...]."""
        if not self.front:
            return self.conv(video)
        before = cache.get(self)
        alone = before is None and video.shape[2] == 1
        if before is not None:
            video = torch.cat([before, video], dim=2)
        elif not alone:
            video = pad(video, (0, 0, 0, 0, self.front, 0))
        kept = video[:, :, -self.kept :]
        cache[self] = pad(kept, (0, 0, 0, 0, self.kept - kept.shape[2], 0))  # a copy, of `kept` frames in any case
        return self.conv(video, alone=alone)


class FrameNorm(nn.GroupNorm):
    """A group norm over each frame alone, so that no frame depends on a later one."""

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """[B,C,T,H,W] -> the same."""
        frames = super().forward(video.movedim(2, 1).flatten(0, 1))
        return frames.unflatten(0, (video.shape[0], -1)).movedim(1, 2)


class ResnetBlock(nn.Module):
    """Two normalised causal convolutions around a shortcut."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels, NORM_EPS)
        self.conv1 = CausalConv3d(channels, out)
        self.norm2 = FrameNorm(groups, out, NORM_EPS)
        self.conv2 = CausalConv3d(out, out)
        self.conv_shortcut = CausalConv3d(channels, out, kernel=1) if channels != out else None

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        hidden = self.conv1(silu(self.norm1(video), inplace=True), cache)
        hidden = self.conv2(silu(self.norm2(hidden), inplace=True), cache)
        return hidden.add_(video if self.conv_shortcut is None else self.conv_shortcut(video, cache))


class Downsampler(nn.Module):
    """Halves space (stride 1,2,2) or time (stride 2,1,1)."""

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=stride)

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        return self.conv(video, cache)


class SpatialUpsampler(nn.Module):
    """Doubles height and width by a pixel shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, 4 * channels)

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        shuffled = self.conv(video, cache).unflatten(1, (-1, 2, 2))  # [B,C,row,column,T,H,W]
        return shuffled.permute(0, 1, 4, 5, 2, 6, 3).flatten(5).flatten(3, 4)


class TemporalUpsampler(nn.Module):
    """Doubles the frames by a frame shuffle; of a video's first frame only one remains."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, 2 * channels)

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        starts = self.conv not in cache
        shuffled = self.conv(video, cache).unflatten(1, (-1, 2)).movedim(2, 3).flatten(2, 3)
        return shuffled[:, :, 1:] if starts else shuffled


class MidBlock(nn.Module):
    """A residual block, attention over the pixels of each frame, a residual block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([
            Attention(
                channels, heads=1, dim_head=channels, bias=True, norm_num_groups=groups, eps=NORM_EPS,
                residual_connection=True,
            )
        ])  # fmt: skip
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups) for _ in range(2))

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        video = self.resnets[0](video, cache)
        frames = self.attentions[0](video.movedim(2, 1).flatten(0, 1))
        return self.resnets[1](frames.unflatten(0, (video.shape[0], -1)).movedim(1, 2), cache)


class DownBlock(nn.Module):
    """Residual blocks, then half the size in space, then in time."""

    def __init__(self, channels: int, out: int, layers: int, groups: int, *, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(out if layer else channels, out, groups) for layer in range(layers))
        if spatial:
            self.downsamplers = nn.ModuleList([Downsampler(out, (1, 2, 2))])
        if temporal:
            self.temporal_downsamplers = nn.ModuleList([Downsampler(out, (2, 1, 1))])

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        for layers in self.children():  # in the order they were made
            for layer in layers:
                video = layer(video, cache)
        return video


class UpBlock(nn.Module):
    """Residual blocks, then twice the size in space, then in time."""

    def __init__(self, channels: int, out: int, layers: int, groups: int, *, spatial: bool, temporal: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(out if layer else channels, out, groups) for layer in range(layers))
        if spatial:
            self.upsamplers = nn.ModuleList([SpatialUpsampler(out)])
        if temporal:
            self.temporal_upsamplers = nn.ModuleList([TemporalUpsampler(out)])

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        for layers in self.children():  # in the order they were made
            for layer in layers:
                video = layer(video, cache)
        return video


class Encoder(nn.Module):
    """Pixels -> mean and log variance, before the last 1x1x1 convolution."""

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        widths: Sequence[int],
        layers: Sequence[int],
        spatial: Sequence[bool],
        temporal: Sequence[bool],
        groups: int,
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(channels, widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(widths[max(0, index - 1)], width, count, groups, spatial=in_space, temporal=in_time)
            for index, (width, count, in_space, in_time) in enumerate(
                zip(widths, layers, spatial, temporal, strict=True)
            )
        )
        self.mid_block = MidBlock(widths[-1], groups)
        self.conv_norm_out = FrameNorm(groups, widths[-1], NORM_EPS)
        self.conv_out = CausalConv3d(widths[-1], 2 * latent_channels)

    def forward(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        hidden = self.conv_in(video, cache)
        for block in (*self.down_blocks, self.mid_block):
            hidden = block(hidden, cache)
        return self.conv_out(silu(self.conv_norm_out(hidden), inplace=True), cache)


class Decoder(nn.Module):
    """Latents -> pixels; `widths` stand as for the encoder and are used backwards, the other lists forwards."""

    def __init__(
        self,
        latent_channels: int,
        channels: int,
        widths: Sequence[int],
        layers: Sequence[int],
        spatial: Sequence[bool],
        temporal: Sequence[bool],
        groups: int,
    ) -> None:
        super().__init__()
        widths = list(widths)[::-1]
        self.conv_in = CausalConv3d(latent_channels, widths[0])
        self.mid_block = MidBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[max(0, index - 1)], width, count, groups, spatial=in_space, temporal=in_time)
            for index, (width, count, in_space, in_time) in enumerate(
                zip(widths, layers, spatial, temporal, strict=True)
            )
        )
        self.conv_norm_out = FrameNorm(groups, widths[-1], NORM_EPS)
        self.conv_out = CausalConv3d(widths[-1], channels)

    def forward(self, latents: torch.Tensor, cache: Cache) -> torch.Tensor:
        hidden = self.conv_in(latents, cache)
        for block in (self.mid_block, *self.up_blocks):
            hidden = block(hidden, cache)
        return self.conv_out(silu(self.conv_norm_out(hidden), inplace=True), cache)


class CausalVideoVAE(ModelMixin, ConfigMixin):
    """The autoencoder; its arguments and parameter names are the published ones."""

    @register_to_config
    def __init__(
        self,
        encoder_in_channels: int = 3,
        encoder_out_channels: int = 16,
        encoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        encoder_layers_per_block: tuple[int, ...] = (2, 2, 2, 2),
        encoder_spatial_down_sample: tuple[bool, ...] = (True, True, True, False),
        encoder_temporal_down_sample: tuple[bool, ...] = (True, True, True, False),
        encoder_norm_num_groups: int = 32,
        decoder_in_channels: int = 16,
        decoder_out_channels: int = 3,
        decoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        decoder_layers_per_block: tuple[int, ...] = (3, 3, 3, 3),
        decoder_spatial_up_sample: tuple[bool, ...] = (True, True, True, False),
        decoder_temporal_up_sample: tuple[bool, ...] = (True, True, True, False),
        decoder_norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            encoder_in_channels,
            encoder_out_channels,
            encoder_block_out_channels,
            encoder_layers_per_block,
            encoder_spatial_down_sample,
            encoder_temporal_down_sample,
            encoder_norm_num_groups,
        )
        self.decoder = Decoder(
            decoder_in_channels,
            decoder_out_channels,
            decoder_block_out_channels,
            decoder_layers_per_block,
            decoder_spatial_up_sample,
            decoder_temporal_up_sample,
            decoder_norm_num_groups,
        )
        self.quant_conv = CausalConv3d(2 * encoder_out_channels, 2 * encoder_out_channels, kernel=1)
        self.post_quant_conv = CausalConv3d(decoder_in_channels, decoder_in_channels, kernel=1)

    def encode(self, video: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Video, or the next piece of it (8n+1 frames first, then 8n) -> mean and log variance [B,2C,n,h,w]."""
        return self.quant_conv(self.encoder(video, cache), cache)

    def decode(self, latents: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Latents, or the next piece of them -> their frames: 1 for the video's first latent, 8 for every other."""
        return self.decoder(self.post_quant_conv(latents, cache), cache)

    def forward(self, video: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Video -> (its reconstruction, mean and log variance); the posterior's sample with `noise`, else its mean."""
        moments = self.encode(video, {})
        mean, log_variance = moments.chunk(2, dim=1)
        latents = mean if noise is None else mean + (log_variance.clamp(-30, 20) / 2).exp() * noise
        return self.decode(latents, {}), moments
