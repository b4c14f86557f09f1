"""Cases of phantom_physics: each function feeds a case's inputs to the product's code and names the outputs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from engines.loading.checkpoints import Checkpoint, load
from engines.loading.key_rules import Architecture
from engines.phantom_physics.encoder import pixel_values
from engines.phantom_physics.keys import VIDEO_ENCODER, VISUAL
from engines.phantom_physics.picture import best_output_size, cover
from engines.phantom_physics.sampling import Latents, Sampler, denoise, token_timesteps
from engines.sampling import guidance
from engines.sampling.denoise import SOLVERS
from engines.wan.text import padded
from engines.wan.transformer import predict
from engines.wan.vae import decode, encode, to_pixels
from engines.wan.vae_keys import VAE
from tests.golden.case import Case

Outputs = dict[str, torch.Tensor]


def build(case: Case, architecture: Architecture, network: str | None = None) -> torch.nn.Module:
    """The case's network, loaded from its published keys as a file's would be."""
    tensors = case.tensors(network)
    config, told = case.config, {}
    if architecture is VISUAL:
        told = {"num_attention_heads": config["num_heads"], "attention_head_dim": config["dim"] // config["num_heads"]}
    elif architecture is VIDEO_ENCODER:
        told = {"num_attention_heads": config.get("num_heads", config.get("num_attention_heads"))}
    return load(Checkpoint("the case", tensors), architecture, dtype=torch.float32, **told)


def transformer(case: Case) -> Outputs:
    latents, network = case.input("latents"), build(case, VISUAL)
    text = torch.stack([padded(states, text_len=case.config["text_len"]) for states in case.numbered("context")])
    timesteps = torch.stack(
        [
            token_timesteps(
                torch.tensor(timestep), latents.shape[1:], patch=case.config["patch_size"], clean_frames=clean
            )
            for timestep, clean in zip(case.input("timestep"), case.call["clean_latent_frames"], strict=True)
        ]
    )
    return {"velocity": predict(network, latents, timesteps, text)}


def vae_encode(case: Case) -> Outputs:
    return {"latents": encode(build(case, VAE), case.input("video"))}


def vae_decode(case: Case) -> Outputs:
    return {"video": torch.cat(list(decode(build(case, VAE), case.input("latents"))), dim=2)}


def sampler(case: Case) -> Outputs:
    network, call = build(case, VISUAL, "transformer"), case.call
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(
        lambda _, __, told: seen.append(told["hidden_states"][0].clone()), with_kwargs=True
    )
    grids = []

    def solver():
        grids.append(SOLVERS[call["sample_solver"]](call["sampling_steps"], shift=call["shift"]))
        return grids[-1]

    conditions = {
        name: padded(case.input(text), text_len=case.config["text_len"])
        for name, text in (("cond", "context"), ("uncond", "context_null"))
    }
    made = Sampler(
        network,
        None,
        conditions=conditions,
        weights=guidance.classifier_free(call["guide_scale"]),
        batched=True,
    )
    given = Latents(case.input("image_latents")) if "image_latents" in case.input_specs else None
    *_, last = denoise(made, Latents(case.input("noise")), given=given, scheduler=solver)
    inputs = {f"model_input_{index}": latents for index, latents in enumerate(seen)}
    return inputs | {"timesteps": grids[0].timesteps, "latents": last.latents.visual}


def scheduler(case: Case) -> Outputs:
    solver = SOLVERS[case.call["solver"]](case.call["steps"], shift=case.call["shift"])
    outputs = {"timesteps": solver.timesteps.clone(), "sigmas": solver.sigmas.clone()}
    latents = case.input("sample")
    for index, timestep in enumerate(outputs["timesteps"]):
        latents = solver.step(case.input(f"velocity_{index}"), timestep, latents, return_dict=False)[0]
        outputs[f"sample_{index}"] = latents
    return outputs


def preprocess(case: Case) -> Outputs:
    if "frames" in case.input_specs:
        frames = case.input("frames").numpy().astype(np.uint8)
        return {"video": pixel_values(frames, size=case.config["crop_size"], resize="crop")}
    image = Image.fromarray(case.input("image").numpy().astype(np.uint8))
    width, height = best_output_size(image.width, image.height, case.call["max_area"])
    table = case.expected["size_table"]
    rows = [[*row[:3], *best_output_size(*row[:3])] for row in table.round().int().tolist()]
    pixels = to_pixels(np.asarray(cover(image, width=width, height=height)))
    return {"image": pixels[0], "size_table": torch.tensor(rows)}


def vjepa2_encoder(case: Case) -> Outputs:
    if "video" in case.input_specs:
        return {"features": build(case, VIDEO_ENCODER)(case.input("video"))}
    return {"features": build(case, VIDEO_ENCODER)(case.input("pixel_values_videos").transpose(1, 2))}


COMPONENTS = {
    "transformer": transformer,
    "vae_encode": vae_encode,
    "vae_decode": vae_decode,
    "sampler": sampler,
    "scheduler": scheduler,
    "preprocess": preprocess,
    "vjepa2_encoder": vjepa2_encoder,
}
