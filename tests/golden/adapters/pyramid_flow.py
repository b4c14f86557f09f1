"""Cases of pyramid_flow: each function feeds a case's inputs to the product's code and names the outputs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines.loading.checkpoints import Checkpoint, load
from engines.loading.key_rules import Architecture
from engines.pyramid_flow import keys
from engines.pyramid_flow.coding import (
    MINIFLUX_STATISTICS,
    SD3_STATISTICS,
    TILE,
    Statistics,
    StreamingDecoder,
    encode,
    to_levels,
)
from engines.pyramid_flow.generation import Unit, make_unit, past_of
from engines.pyramid_flow.noise import block_noise, coarsest, next_stage
from engines.pyramid_flow.packing import Text
from engines.pyramid_flow.picture import fill, to_pixels
from engines.pyramid_flow.scheduler import PyramidScheduler
from engines.pyramid_flow.text import encode_pooled, encode_states
from tests.golden import recipe
from tests.golden.case import Case

Outputs = dict[str, torch.Tensor]


def is_mmdit(config: Any) -> bool:
    return "pos_embed_max_size" in config


def scheduler_of(config: Any) -> PyramidScheduler:
    return PyramidScheduler(
        train_timesteps=config.get("num_train_timesteps", 1000),
        shift=config.get("shift", 1.0),
        stage_range=tuple(config.get("stage_range", PyramidScheduler.stage_range)),
        gamma=config.get("gamma", PyramidScheduler.gamma),
    )


def build_transformer(case: Case, config: Any, *, network: str | None = None) -> Any:
    """The network, loaded from the published keys; what shapes cannot tell comes from the case's configuration."""
    if is_mmdit(config):
        architecture, told = keys.MMDIT, ("sample_size", "pos_embed_max_size")
    else:
        architecture, told = keys.MINIFLUX, ("axes_dims_rope",)
    overrides = {name: config[name] for name in told if name in config}
    return load(Checkpoint("the case", case.tensors(network)), architecture, dtype=torch.float32, **overrides)


def buffers(network: Any) -> Outputs:
    table = getattr(network.pos_embed, "pos_embed", None)
    return {} if table is None else {"buffer.pos_embed.pos_embed": table}


def build_vae(case: Case) -> Any:
    groups = {name: case.config[name] for name in ("encoder_norm_num_groups", "decoder_norm_num_groups")}
    return load(Checkpoint("the case", case.tensors()), keys.VAE, dtype=torch.float32, **groups)


def scheduler(case: Case) -> Outputs:
    pyramid = scheduler_of(case.config)
    outputs = {
        "start_sigmas": torch.tensor(pyramid.starts),
        "end_sigmas": torch.tensor(pyramid.ends),
        "ori_start_sigmas": torch.tensor(pyramid.original_starts),
        "timestep_ratios": torch.tensor(pyramid.ratios),
    }
    for stage, steps in enumerate(case.call["num_inference_steps"]):
        schedule = pyramid.schedule(stage, steps)
        outputs |= {f"timesteps.{stage}": schedule.timesteps, f"sigmas.{stage}": schedule.sigmas}
        latents = case.input("sample")
        for index in range(steps):
            latents = schedule.step(index, latents, case.input(f"model_output.{stage}.{index}"))
            outputs[f"prev_sample.{stage}.{index}"] = latents
    return outputs


def stage_transition(case: Case) -> Outputs:
    pyramid = scheduler_of(case.config)
    latents, outputs = case.input("latents"), {}
    for _, stage in case.call["transitions"]:
        latents = next_stage(latents, case.input(f"block_noise.{stage}"), *pyramid.renoise(stage))
        outputs[f"start.{stage}"] = latents
    root = block_noise(torch.eye(4).view(4, 2, 2), pyramid.gamma).view(4, 4)
    return outputs | {"block_covariance": root @ root.T}


def history(case: Case) -> Outputs:
    pyramid = PyramidScheduler()
    frames = case.config.get("frame_per_unit", 1)
    finished, noise = case.input("clean_latents"), case.input("initial_noise")
    rows = 2 if case.call["classifier_free_guidance"] else 1
    outputs = {}
    for unit, (begin, done, length) in enumerate(units_of(case.call, frames)):
        unit += case.call["task"] == "i2v"
        outputs[f"noise.u{unit}"] = coarsest(noise[:, :, begin : begin + length], pyramid.stages)
        past = past_of(finished[:, :, :done] if done else None, pyramid, unit_frames=frames)
        for stage, clips in enumerate(past):
            for index, clip in enumerate(clips):
                outputs[f"past.u{unit}.s{stage}.c{index}"] = clip.repeat(rows, 1, 1, 1, 1)
    return outputs


def units_of(call: Any, frames: int) -> list[tuple[int, int, int]]:
    """(first noise frame, finished frames before it, frames) of every unit that is made."""
    done = int(call["task"] == "i2v")
    found, begin = [], 0
    while done < call["temp"]:
        length = frames if done else 1
        if done + length > call["temp"] and found:
            break
        found.append((begin, done, length))
        begin, done = begin + length, done + length
    return found


def transformer(case: Case) -> Outputs:
    network = build_transformer(case, case.config)
    stages = case.call["num_stages"]
    outputs = buffers(network)
    mask = torch.as_tensor(case.input("encoder_attention_mask"))
    text = Text(case.input("encoder_hidden_states"), mask, case.input("pooled_projections"))
    timesteps = torch.as_tensor(case.input("timestep_ratio"))
    for stage, count in enumerate(case.call["clips_per_stage"]):
        clips = [case.input(f"sample.{stage}.{index}") for index in range(count)]
        rows = Text(*(part[stage::stages] for part in (text.states, text.mask, text.pooled)))
        outputs[f"out.{stage}"] = network(clips, rows, timesteps[stage::stages])
    return outputs


def text_encoder(case: Case) -> Outputs:
    def network(name: str, salt: str, architecture: Architecture) -> Any:
        tensors = recipe.state_dict(case.weights[name], case.salt + salt)
        tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in tensors.items()}
        config = dict(case.config[name])
        return load(Checkpoint("the case", tensors), architecture, dtype=torch.float32, **config)

    if "text_encoder_3" in case.weights:
        t5 = network("text_encoder_3", "5-", keys.T5)
        pooled = [
            encode_pooled(network("text_encoder", "1-", keys.PROJECTED_CLIP), torch.as_tensor(case.input("clip_ids"))),
            encode_pooled(
                network("text_encoder_2", "2-", keys.PROJECTED_CLIP), torch.as_tensor(case.input("clip_2_ids"))
            ),
        ]
    else:
        t5 = network("text_encoder_2", "5-", keys.T5)
        pooled = [encode_pooled(network("text_encoder", "1-", keys.CLIP), torch.as_tensor(case.input("clip_ids")))]
    mask = torch.as_tensor(case.input("t5_mask"))
    states = encode_states(t5, torch.as_tensor(case.input("t5_ids")) * mask, mask)
    return {"prompt_embeds": states, "pooled_prompt_embeds": torch.cat(pooled, dim=-1)}


def tile_of(case: Case) -> int | None:
    return case.call.get("tile_sample_min_size", TILE) if case.call.get("tiling") else None


def vae_encode(case: Case) -> Outputs:
    window = case.call.get("window_size", 16) if case.call.get("temporal_chunk") else None
    moments = encode(build_vae(case), case.input("pixels"), tile=tile_of(case), window=window)
    sample = moments.sample(case.input("posterior_noise"))
    return {"mean": moments.mean, "logvar": moments.log_variance, "sample": sample}


def decode(vae: Any, latents: torch.Tensor, *, tile: int | None, window: int) -> torch.Tensor:
    """All frames, decoded in pieces: window + 1 latents first, then window."""
    decoder = StreamingDecoder(tile=tile)
    bounds = [0, *range(window + 1, latents.shape[2], window), latents.shape[2]]
    pieces = [latents[:, :, begin:end] for begin, end in pairwise(bounds)]
    return torch.cat([decoder(vae, piece) for piece in pieces], dim=2)


def vae_decode(case: Case) -> Outputs:
    window = case.call.get("window_size", 2) if case.call.get("temporal_chunk") else case.input("latents").shape[2]
    return {"sample": decode(build_vae(case), case.input("latents"), tile=tile_of(case), window=window)}


def decode_latent(case: Case) -> Outputs:
    statistics = {"pyramid_mmdit": SD3_STATISTICS, "pyramid_flux": MINIFLUX_STATISTICS}[case.call["model_name"]]
    latents = statistics.denormalised(case.input("latents"))
    video = decode(build_vae(case), latents, tile=tile_of(case), window=case.call.get("window_size", 1))
    frames = torch.from_numpy(to_levels(video)).float()
    return {"vae_input": latents, "sample": video, "frames": frames}


def preprocess(case: Case) -> Outputs:
    levels = (case.input("image") + 127.5).clamp(0, 255).round().to(torch.uint8)
    size = (case.call["target_width"], case.call["target_height"])
    picture = fill(Image.fromarray(levels.numpy()), width=size[0], height=size[1])
    return {"pixels": to_pixels(np.asarray(picture))}


def sampler(case: Case) -> Outputs:
    call, config = case.call, case.config
    pyramid = scheduler_of(config["scheduler"])
    network = build_transformer(case, config["transformer"], network="transformer")
    frames = call.get("frame_per_unit", 1)
    texts = {
        name: Text(
            case.input(f"{prefix}prompt_embeds"),
            torch.as_tensor(case.input(f"{prefix}prompt_attention_mask")),
            case.input(f"{prefix}pooled_prompt_embeds"),
        )
        for name, prefix in (("cond", ""), ("uncond", "negative_"))
    }
    noise, finished = case.input("initial_noise"), None
    first_steps = list(call["num_inference_steps"])
    later_steps = list(call.get("video_num_inference_steps", first_steps))
    if call["task"] == "i2v":
        shift, scale = config["vae_shift_scale"]["image"]
        finished = Statistics(shift, scale).normalised(case.input("image_latent_raw"))
        later_steps = first_steps
    draws = iter(range(10**6))
    outputs = buffers(network)
    for unit, (begin, done, length) in enumerate(units_of(call, frames)):
        number = unit + (call["task"] == "i2v")
        made = Unit(
            start=noise[:, :, begin : begin + length],
            block_noise=lambda shape: case.input(f"block_noise.{next(draws)}"),
            texts=texts,
            scale=scale_of(call, number, first=done == 0),
            steps=tuple(later_steps if done else first_steps),
        )
        past = past_of(finished, pyramid, unit_frames=frames)
        for step in make_unit(network, made, past=past, scheduler=pyramid, renoise=lambda draws, gamma: draws):
            if step.stage_ends and step.stage + 1 < pyramid.stages:
                outputs[f"unit{number}.stage{step.stage}"] = step.latents
        finished = step.latents if finished is None else torch.cat([finished, step.latents], dim=2)
    return outputs | {"latents": finished}


def scale_of(call: Any, unit: int, *, first: bool) -> float:
    """The guidance of a unit; `guidance_scale` also switches guidance on and off for all of them."""
    if call["guidance_scale"] <= 0:
        return 0.0
    if call.get("use_linear_guidance"):
        falling = call["guidance_scale"] - call.get("alpha", 0.5) * unit
        return max(falling, call.get("min_guidance_scale", 2.0))
    return call["guidance_scale"] if first else call["video_guidance_scale"]


COMPONENTS = {
    "scheduler": scheduler,
    "stage_transition": stage_transition,
    "history": history,
    "transformer": transformer,
    "text_encoder": text_encoder,
    "vae_encode": vae_encode,
    "vae_decode": vae_decode,
    "decode_latent": decode_latent,
    "preprocess": preprocess,
    "sampler": sampler,
}
