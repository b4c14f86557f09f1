"""Cases of phantom_wan: each function feeds a case's inputs to the product's code and names the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines.loading.checkpoints import Checkpoint, load
from engines.loading.key_rules import Architecture
from engines.media.framing import fit_on_canvas
from engines.phantom_wan.engine import sample
from engines.sampling import guidance
from engines.sampling.denoise import SOLVERS, denoise
from engines.wan.encoder_keys import IMAGE_ENCODER, TEXT_ENCODER
from engines.wan.image import encode_image, pixel_values
from engines.wan.text import clean, encode_tokens, padded
from engines.wan.transformer import predict
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae import decode, encode, to_pixels
from engines.wan.vae_keys import VAE
from tests.golden.case import Case

Outputs = dict[str, torch.Tensor]


def build(case: Case, architecture: Architecture, *, network: str | None = None, **overrides: Any) -> Any:
    """The case's network, loaded from its published keys as a file's would be."""
    tensors = case.tensors(network)
    return load(Checkpoint("the case", tensors), architecture, dtype=torch.float32, **overrides)


def heads(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the tiny transformers' shapes cannot tell."""
    return {
        "num_attention_heads": config["num_heads"],
        "attention_head_dim": config["dim"] // config["num_heads"],
        "eps": config.get("eps", 1e-6),
    }


def transformer(case: Case) -> Outputs:
    network = build(case, TRANSFORMER, **heads(case.config))
    latents = case.input("x")
    if "y" in case.input_specs:
        latents = torch.cat([latents, case.input("y")], dim=1)
    text = torch.stack([padded(states, text_len=case.config["text_len"]) for states in case.numbered("context")])
    image = case.input("clip_fea") if "clip_fea" in case.input_specs else None
    timestep = torch.as_tensor(case.input("t"))
    return {"out": predict(network, latents, timestep, text, image=image)}


def vae_encode(case: Case) -> Outputs:
    return {"latent": encode(build(case, VAE), case.input("video"))}


def vae_decode(case: Case) -> Outputs:
    return {"video": torch.cat(list(decode(build(case, VAE), case.input("latent"))), dim=2)}


def text_encoder(case: Case) -> Outputs:
    encoder = build(case, TEXT_ENCODER)
    return {"hidden": encode_tokens(encoder, case.input("ids"), torch.as_tensor(case.input("lengths")))}


def text_clean(case: Case) -> Outputs:
    cleaned = {name: clean(case.input(name)) for name in case.input_specs}
    return {name: torch.tensor([ord(character) for character in text]) for name, text in cleaned.items()}


def image_encoder(case: Case) -> Outputs:
    told = {"num_attention_heads": case.config["num_heads"], "layer_norm_eps": case.config.get("norm_eps", 1e-5)}
    encoder = build(case, IMAGE_ENCODER, **told)
    values = pixel_values(case.input("image"), size=case.config["image_size"])
    return {"pixel_values": values, "hidden": encode_image(encoder, values)}


def scheduler(case: Case) -> Outputs:
    solver = SOLVERS[case.call["solver"]](case.call["steps"], shift=case.call["shift"])
    timesteps, sigmas = solver.timesteps.clone(), solver.sigmas.clone()
    predictions = iter(case.input("model_outputs"))
    states = denoise(case.input("sample"), solver, lambda latents, timestep: next(predictions))
    return {"timesteps": timesteps, "sigmas": sigmas, "samples": torch.stack([state.latents for state in states])}


def preprocess(case: Case) -> Outputs:
    width, height = case.call["size"]
    return {
        name: torch.from_numpy(on_canvas(case.input(name), width, height).astype(np.float32))
        for name in case.input_specs
    }


def sampler(case: Case) -> Outputs:
    network = build(case, TRANSFORMER, **heads(case.config))
    latents = run_loop(case, network, case.input("ref_latents"), text_len=case.config["text_len"])
    return {"latents": latents[:, : latents.shape[1] - case.input("ref_latents").shape[1]], "latents_full": latents}


def pipeline(case: Case) -> Outputs:
    config = case.config["transformer"]
    network, vae = build(case, TRANSFORMER, network="transformer", **heads(config)), build(case, VAE, network="vae")
    width, height = case.call["size"]
    pictures = [on_canvas(picture, width, height) for picture in case.numbered("ref")]
    references = torch.cat([encode(vae, to_pixels(picture))[0] for picture in pictures], dim=1)
    latents = run_loop(case, network, references, text_len=config["text_len"])
    clip = latents[:, : latents.shape[1] - references.shape[1]]
    return {"ref_latents": references, "video": torch.cat(list(decode(vae, clip[None])), dim=2)[0]}


def on_canvas(picture: torch.Tensor, width: int, height: int) -> np.ndarray:
    """Picture [H,W,3] -> uint8 [height,width,3]."""
    image = Image.fromarray(picture.numpy().astype(np.uint8))
    return np.asarray(fit_on_canvas(image, width=width, height=height))


def run_loop(case: Case, network: Any, references: torch.Tensor, *, text_len: int) -> torch.Tensor:
    """The state after the last step, reference slots included."""
    call = case.call
    states = sample(
        network,
        noise=case.input("noise"),
        references=references,
        prompt=padded(case.input("context"), text_len=text_len),
        negative=padded(case.input("context_null"), text_len=text_len),
        weights=guidance.subject(call["guide_scale_img"], call["guide_scale_text"]),
        scheduler=SOLVERS[call.get("solver", "unipc")](call["steps"], shift=call["shift"]),
        batched=True,
    )
    *_, last = states
    return last.latents


COMPONENTS = {
    "transformer": transformer,
    "vae_encode": vae_encode,
    "vae_decode": vae_decode,
    "text_encoder": text_encoder,
    "text_clean": text_clean,
    "image_encoder": image_encoder,
    "scheduler": scheduler,
    "preprocess": preprocess,
    "sampler": sampler,
    "pipeline": pipeline,
}
