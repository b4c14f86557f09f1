"""Cases of flashi2v: each function feeds a case's inputs to the product's code and names the outputs."""

from __future__ import annotations

import numpy as np
import torch

from engines.flashi2v.engine import cover, sample
from engines.flashi2v.keys import FLASHI2V
from engines.flashi2v.network import FlashI2VTransformer3DModel, ShiftProjection, fourier_features
from engines.loading.checkpoints import Checkpoint, load
from engines.sampling.denoise import TRAINING_STEPS, denoise, euler
from engines.sampling.guidance import text_weights
from engines.training.shifted import dynamic_shift, shift_sigmas, shifted_input
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import encode_tokens, padded
from engines.wan.transformer import predict
from engines.wan.vae import to_pixels
from tests.golden.case import Case

Outputs = dict[str, torch.Tensor]


def network(case: Case) -> FlashI2VTransformer3DModel:
    """The case's network, loaded from its published keys as a file's would be."""
    tensors = case.tensors()
    heads = case.config["num_heads"]
    width = case.config.get("dim", case.config.get("hidden_size"))
    told = {
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "eps": case.config.get("eps", 1e-6),
    }
    return load(Checkpoint("the case", tensors), FLASHI2V, dtype=torch.float32, **told)


def fourier_guidance(case: Case) -> Outputs:
    latent = case.input("latent")

    def features(item: dict) -> torch.Tensor:
        return fourier_features(
            latent, item.get("ratio", 0.0), magnitude=item.get("return_abs", True), cutoff=item.get("cutoff")
        )

    return {name: features(item) for name, item in case.call["items"].items()}


def shift_projection(case: Case) -> Outputs:
    tensors = {name.removeprefix("learnable_proj.").removeprefix("proj."): t for name, t in case.tensors().items()}
    width, channels, *kernel = tensors["0.weight"].shape
    projection = ShiftProjection(channels, width=width, kernel=kernel)
    projection.load_state_dict(tensors)
    first = case.input("start_frame_latents")
    return {"shift": projection.shift(first, case.call.get("repeat_frames_before_projection", 1))}


def transformer(case: Case) -> Outputs:
    latents, features = case.input("latents"), case.input("fourier_features")
    seen = torch.cat([latents, features.expand_as(latents)], dim=1)
    text = torch.stack([padded(states, text_len=case.config["text_len"]) for states in case.input("context")])
    return {"velocity": predict(network(case), seen, torch.as_tensor(case.input("timestep")), text)}


def scheduler(case: Case) -> Outputs:
    call, training = case.call, case.config["training"]
    solver = euler(call["steps"], shift=call["shift"])
    latents, noise = case.input("latents"), case.input("noise")
    predictions = case.numbered("velocity")
    following = iter(predictions)
    states = denoise(latents, euler(call["steps"], shift=call["shift"]), lambda *_: next(following))
    told = {
        "base_seq": training["base_image_seq"],
        "max_seq": training["max_image_seq"],
        "base_shift": training["base_shift"],
        "max_shift": training["max_shift"],
    }

    def shifted(sigmas: torch.Tensor, area: int) -> torch.Tensor:
        factor = dynamic_shift(area, **told) if training["use_dynamic_shifting"] else call["shift"]
        return shift_sigmas(sigmas, factor)

    sigmas = shifted(torch.tensor(case.input("train_sigmas")), latents.shape[-2] * latents.shape[-1])
    seen, timesteps, velocity = shifted_input(latents, noise, sigmas, case.input("shift_term"))
    outputs = {
        "sigmas": solver.sigmas,
        "timesteps": solver.sigmas * TRAINING_STEPS,
        "latents_after": torch.stack([state.latents for state in states]),
        "train_x_t": seen,
        "train_sigmas_shifted": sigmas,
        "train_timesteps": timesteps,
        "train_loss": (predictions[0] - velocity).square().mean()[None],
    }
    if "sigmas_default" in call:
        outputs["sigmas_default"] = euler(call["sigmas_default"]["steps"], shift=call["sigmas_default"]["shift"]).sigmas
    if "image_seq_len_480x832" in call:
        outputs["train_sigmas_480x832"] = shifted(torch.tensor([0.1, 0.5, 0.9]), 4 * call["image_seq_len_480x832"])
    return outputs


def sampler(case: Case) -> Outputs:
    built, call = network(case), case.call
    noise, first = case.input("noise"), case.input("start_frame_latents")
    prompts, negatives = (
        [padded(states, text_len=case.config["text_len"]) for states in case.input(name)]
        for name in ("prompt_embeds", "negative_prompt_embeds")
    )
    ratio = call["low_freq_energy_ratio"]
    latents = []
    for index in range(len(noise)):
        *_, last = sample(
            built,
            noise=noise[index],
            first=first[index],
            prompt=prompts[index],
            negative=negatives[index],
            weights=text_weights(call["guidance_scale"]),
            ratio=ratio,
            scheduler=euler(call["steps"], shift=call["shift"]),
            batched=True,
        )
        latents.append(last.latents)
    shift, features = built.shift_and_features(first, frames=noise.shape[2], ratio=ratio)
    seen = torch.cat([noise - shift, features], dim=1)
    velocity = predict(built, seen, torch.tensor(float(TRAINING_STEPS)), torch.stack(prompts))
    return {"latents": torch.stack(latents), "first_velocity": velocity, "shift": shift}


def preprocess(case: Case) -> Outputs:
    picture = case.input("image").permute(1, 2, 0).numpy().astype(np.uint8)
    size = {"width": case.call["width"], "height": case.call["height"]}
    ways = {"main_bicubic": "bicubic", "npu_bilinear": "bilinear"}
    return {
        name: to_pixels(cover(picture, **size, interpolation=way))[:, :, 0]
        for name, way in ways.items()
        if name in case.expected
    }


def text_encoder(case: Case) -> Outputs:
    encoder = load(Checkpoint("the case", case.tensors()), TEXT_ENCODER, dtype=torch.float32)
    lengths = torch.tensor(case.input("mask")).sum(1)
    states = encode_tokens(encoder, case.input("ids"), lengths)
    text_len = case.call.get("text_len", states.shape[1])
    return {"context": torch.stack([padded(row, text_len=text_len) for row in states])}


COMPONENTS = {
    "fourier_guidance": fourier_guidance,
    "shift_projection": shift_projection,
    "transformer": transformer,
    "scheduler": scheduler,
    "sampler": sampler,
    "preprocess": preprocess,
    "text_encoder": text_encoder,
}
