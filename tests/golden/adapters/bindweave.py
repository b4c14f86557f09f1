"""Cases of bindweave: each function feeds a case's inputs to the product's code and names the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines.bindweave.conditions import clip_pixels, clip_states, latent_mask, reference_frames, with_clip_frames
from engines.bindweave.denoising import Reading, sample
from engines.bindweave.keys import BINDWEAVE
from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.bindweave.reading import reduced_size, reference_patches
from engines.loading.checkpoints import Checkpoint, load
from engines.loading.key_rules import Architecture
from engines.media.framing import Masked, letterbox
from engines.qwen.chat import positions, read
from engines.qwen.keys import QWEN
from engines.qwen.pictures import MERGE, PATCH, Patches, look, seen_size
from engines.sampling.denoise import SOLVERS
from engines.sampling.guidance import text_weights
from engines.wan.encoder_keys import IMAGE_ENCODER
from engines.wan.image import encode_image
from engines.wan.latents import denormalised
from engines.wan.vae import encode, encode_grey, to_pixels
from engines.wan.vae_keys import VAE
from tests.golden.case import Case

Outputs = dict[str, torch.Tensor]


def build(case: Case, architecture: Architecture, *, network: str | None = None, **overrides: Any) -> Any:
    """The case's network, loaded from its published keys as a file's would be."""
    tensors = case.tensors(network)
    return load(Checkpoint("the case", tensors), architecture, dtype=torch.float32, **overrides)


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the tiny transformers' shapes cannot tell."""
    return {
        "num_attention_heads": config["num_heads"],
        "attention_head_dim": config["hidden_size"] // config["num_heads"],
        "eps": config.get("eps", 1e-6),
        "clip_token_len": config.get("clip_token_len", 257),
        "rope_max_seq_len": config.get("max_seq_len", 1024),
    }


def transformer(case: Case) -> Outputs:
    network = build(case, BINDWEAVE, **told(case.config))
    sample = network(
        case.input("latents"),
        torch.tensor(case.call["timestep"]),
        mllm=case.input("mllm_hidden_states"),
        text=case.input("text_embeds"),
        clip=case.input("clip_features"),
        condition=case.input("vae_condition"),
    )
    return {"sample": sample}


def connector(case: Case) -> Outputs:
    """The case has the weights of the condition embedder alone."""
    config, prefix = case.config, "condition_embedder."
    network = BindWeaveTransformer3DModel(
        **told(config),
        mllm_dim=case.input("mllm_hidden_states").shape[-1],
        in_channels=config["in_dim"],
        out_channels=config["out_dim"],
        text_dim=config["text_dim"],
        freq_dim=config["freq_dim"],
        ffn_dim=config["ffn_dim"],
        num_layers=config["num_layers"],
        image_dim=config["img_dim"],
        added_kv_proj_dim=config["hidden_size"],
    )
    tensors = {name.removeprefix(prefix): tensor for name, tensor in case.tensors().items()}
    network.condition_embedder.load_state_dict(tensors)
    joint = network.join(case.input("mllm_hidden_states"), case.input("text_embeds"))
    timestep = torch.tensor(case.call["timestep"])
    temb, projected, text, image = network.condition_embedder(timestep, joint, case.input("clip_features"))
    return {
        "joint": joint,
        "context": torch.cat([image, text], dim=1),
        "temb": temb,
        "timestep_proj": projected.unflatten(1, (6, -1)),
    }


def scheduler(case: Case) -> Outputs:
    solver = SOLVERS["unipc"](case.call["num_inference_steps"], shift=case.call["flow_shift"])
    return {"timesteps": solver.timesteps, "sigmas": solver.sigmas}


def sampler(case: Case) -> Outputs:
    call = case.call
    *_, last = sample(
        build(case, BINDWEAVE, **told(case.config)),
        noise=case.input("latents")[0],
        condition=case.input("vae_condition")[0],
        clip=case.input("clip_features")[0],
        readings={
            "cond": Reading(case.input("mllm_hidden_states")[0], case.input("text_embeds")[0]),
            "uncond": Reading(case.input("negative_mllm_hidden_states")[0], case.input("negative_text_embeds")[0]),
        },
        weights=text_weights(call["guidance_scale"]),
        scheduler=SOLVERS["unipc"](call["num_inference_steps"], shift=call["flow_shift"]),
    )
    latents = last.latents[None]
    return {"latents": latents, "decoder_input": denormalised(latents, call)}


def images(case: Case) -> list[Image.Image]:
    return [Image.fromarray(pixels.numpy().astype(np.uint8)) for pixels in case.numbered("image")]


def letterboxed(case: Case) -> list[Masked]:
    size = {"width": case.config["width"], "height": case.config["height"]}
    return [letterbox(image, **size) for image in images(case)]


def mask_of(seen: Masked, *, stride: int = 8) -> torch.Tensor:
    return latent_mask(np.asarray(seen.mask), rows=seen.mask.height // stride, columns=seen.mask.width // stride)


def preprocess(case: Case) -> Outputs:
    seen = letterboxed(case)
    pixels = [to_pixels(np.asarray(one.image))[0, :, 0] for one in seen]
    vae, clip, mask = (case.call[f"{name}_stride"] for name in ("vae", "clip", "mask"))
    return {
        "vae_input": torch.stack(pixels)[..., ::vae, ::vae],
        "clip_input": torch.cat([clip_pixels(np.asarray(one.image), size=224) for one in seen])[..., ::clip, ::clip],
        "mask": torch.stack([mask_of(one) for one in seen])[..., ::mask, ::mask],
    }


def conditioning(case: Case) -> Outputs:
    config = case.config
    vae = build(case, VAE, network="vae")
    heads = config["image_encoder"]["num_attention_heads"]
    encoder = build(case, IMAGE_ENCODER, network="image_encoder", num_attention_heads=heads)
    seen, slots = letterboxed(case)[: config["max_refs"]], config["max_refs"]
    latents = [encode(vae, to_pixels(np.asarray(one.image)))[0] for one in seen]
    references = reference_frames(latents, [mask_of(one) for one in seen], slots=slots)
    size = {name: config[name] for name in ("width", "height")}
    grey = encode_grey(vae, **size, frames=config["num_frames"])
    pictures = [
        encode_image(encoder, clip_pixels(np.asarray(one.image), size=encoder.config.image_size))[0] for one in seen
    ]
    stride = case.call["stride"]
    return {
        "clip_features": clip_states(pictures, slots=slots)[None],
        "vae_condition": with_clip_frames(references, grey)[None, ..., ::stride, ::stride],
    }


def mllm(case: Case) -> Outputs:
    network = build(case, QWEN, **case.config)
    ids, grids = torch.tensor(case.input("input_ids")), torch.tensor(case.input("image_grid_thw"))
    features = look(network, Patches(case.input("pixel_values"), grids))
    return {
        "hidden_states": read(network, ids, features, grids)[None],
        "position_ids": positions(network, ids, grids),
    }


def mllm_preprocess(case: Case) -> Outputs:
    rows = []
    for size in case.input("sizes"):
        reduced = reduced_size(*size)
        width, height = seen_size(*reduced)
        rows.append([*reduced, width, height, width * height // (PATCH * MERGE) ** 2])
    pictures = reference_patches(images(case))
    return {
        "size_table": torch.tensor(rows),
        "grid_thw": pictures.grids,
        "pixel_values": pictures.values[:: case.call["row_stride"]],
    }


COMPONENTS = {
    "transformer": transformer,
    "connector": connector,
    "scheduler": scheduler,
    "sampler": sampler,
    "preprocess": preprocess,
    "conditioning": conditioning,
    "mllm": mllm,
    "mllm_preprocess": mllm_preprocess,
}
