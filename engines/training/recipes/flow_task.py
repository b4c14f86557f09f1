"""What the flow-matching recipes share: transformer and text encoder, the loss, export of both files."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import nn

from engines.sampling.denoise import TRAINING_STEPS

from .. import networks
from ..attention import written_out
from ..compiling import compile_blocks
from ..data import ClipDataset
from ..files import read_network, save_network
from ..flow import draw_sigmas, noised
from ..recipe import Recipe
from . import vae


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowRecipe(Recipe):
    """Settings of a flow-matching run."""

    latents_file: str = vae.CODE
    vae_file: str = vae.FILE  # decodes these latents
    train_text: bool = False  # all starters share the text encoder that the first one was trained with
    drop_text: float = 0.1  # empty prompt, references kept
    drop_all: float = 0.0  # empty prompt and zero references
    sigma_centre: float = 0.7  # of the normal in the noise levels' logits
    text_len: int = networks.TEXT_LEN
    transformer_file: str = "wan_t2v.safetensors"
    compiled: bool = True


class FlowTask:
    """Trains a transformer (and the text encoder) on world latents; references go last on the frame axis, clean."""

    def __init__(self, recipe: FlowRecipe) -> None:
        self.recipe = recipe
        self.transformer = self.build_transformer()
        self.text_encoder = networks.build_text_encoder()
        folders = [Path(folder) for folder in (recipe.start, recipe.files) if folder]  # exports have no frozen one
        known = next((path for one in folders if (path := one / "text_encoder.safetensors").is_file()), None)
        if known is not None:
            load_text(self.text_encoder, known)
        elif not recipe.train_text:
            raise ValueError(
                f"There is no text_encoder.safetensors in {folders[-1].name}: make it with train_text=true."
            )
        if not recipe.train_text:
            self.text_encoder.requires_grad_(False)
        if recipe.compiled:
            compile_blocks(self.transformer.blocks, dynamic=False)

    def build_transformer(self) -> WanTransformer3DModel:
        """The network to train, from the text-to-video starter where the recipe names one.

        What is next to the latents begins anew where that starter was trained on other ones.
        """
        transformer = networks.build_transformer()
        if self.recipe.start:
            begin_from(transformer, Path(self.recipe.start) / "wan_t2v.safetensors")
        return transformer

    def networks(self) -> dict[str, nn.Module]:
        """Both networks; a frozen text encoder has no parameters to train."""
        return {"transformer": self.transformer, "text_encoder": self.text_encoder}

    def dataset(self) -> ClipDataset:
        """Endless world clips."""
        recipe = self.recipe
        return ClipDataset(recipe, text_len=recipe.text_len, empty_text=recipe.drop_text)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean squared velocity error over the video's own latent frames."""
        clean, recipe = batch["latents"], self.recipe
        count, _, frames = clean.shape[:3]
        sigmas = draw_sigmas(count, rng, centre=recipe.sigma_centre).to(clean.device)
        noisy, velocity = noised(clean, sigmas, rng)
        keep = torch.ones(count, device=clean.device)
        references = batch.get("refs")
        if references is not None:
            keep = (torch.rand(count, generator=rng) >= recipe.drop_all).float().to(clean.device)
            noisy = torch.cat([noisy, references * keep.view(-1, 1, 1, 1, 1)], 2)
        states = networks.text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=recipe.text_len)
        if recipe.drop_all:
            states = torch.where(keep.view(-1, 1, 1) > 0, states, self._no_text().expand(count, -1, -1))
        with written_out(enabled=noisy.device.type == "cpu"):
            predicted = self.transformer(noisy, sigmas * TRAINING_STEPS, states, return_dict=False)[0][:, :, :frames]
        errors = (predicted.float() - velocity).square().mean((1, 2, 3, 4))
        figures = {}
        if references is not None:
            figures[f"loss_{references.shape[2]}_refs"] = float(errors.detach().mean())
        figures[f"loss_{frames}_frames"] = float(errors.detach().mean())
        return errors.mean(), figures

    def _no_text(self) -> torch.Tensor:
        device = self.text_encoder.device
        end = torch.tensor([[self.text_encoder.config.eos_token_id]], device=device)
        mask = torch.ones(1, 1, device=device)
        return networks.text_states(self.text_encoder, end, mask, text_len=self.recipe.text_len)

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """Write the transformer's and, when it was trained, the text encoder's starter file."""
        facts = {
            "class": type(self.transformer).__name__,
            "config": {name: value for name, value in self.transformer.config.items() if not name.startswith("_")},
            "text_len": self.recipe.text_len,
            "vae": self.recipe.vae_file,
            "recipe": record,
        }
        names = {name.replace("._orig_mod", ""): value for name, value in weights["transformer"].items()}
        save_network(folder / self.recipe.transformer_file, names, facts=facts)
        if self.recipe.train_text:
            facts = {"class": "UMT5EncoderModel", "config": dict(networks.TEXT_ENCODER), "recipe": record}
            save_network(folder / "text_encoder.safetensors", weights["text_encoder"], facts=facts)


def begin_from(transformer: WanTransformer3DModel, path: Path) -> None:
    """Takes the weights of a text-to-video starter; what is next to its latents only where they are the same.

    Raises:
        ValueError: it is of another network.
    """
    tensors, _ = read_network(path)
    shapes = {name: tensor.shape for name, tensor in transformer.state_dict().items()}
    fitting = {name: tensor for name, tensor in tensors.items() if tensor.shape == shapes.get(name)}
    missing, _ = transformer.load_state_dict(fitting, strict=False)
    if not all(name.startswith(("patch_embedding.", "proj_out.")) for name in missing):
        raise ValueError(f"{path.name} in {path.parent} is of another network: {missing}.")


def load_text(encoder: nn.Module, path: Path) -> None:
    """Load a text encoder file; the tied embedding appears in it once."""
    missing, unexpected = encoder.load_state_dict(read_network(path)[0], strict=False)
    if unexpected or set(missing) - {"encoder.embed_tokens.weight"}:
        raise ValueError(f"{path} does not fit the text encoder: missing {missing}, unexpected {unexpected}.")
