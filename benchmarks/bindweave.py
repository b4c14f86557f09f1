"""python -m benchmarks.bindweave: one job against the three published stages, on the same weights; attention's copies.

The published code asks for a chat about the prompt (left out here, for both), reads prompt and pictures with Qwen2.5-VL
into files, and makes the clip from those files, each stage a process that loads its networks anew. Both ways are
counted network by network, and make the same clip. Networks of the starter's size with random weights: they cost what
trained ones do. Nothing needs a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from engines.bindweave.conditions import clip_pixels, clip_states, latent_mask, reference_frames, with_clip_frames
from engines.bindweave.denoising import Reading, sample
from engines.bindweave.keys import BINDWEAVE
from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.bindweave.reading import reference_patches
from engines.bindweave.spec import MAX_REFERENCES, STARTER_FILES, read_on, starter
from engines.evaluation.product import Product
from engines.loading.checkpoints import load, open_checkpoint
from engines.loading.key_rules import Architecture
from engines.loading.store import ASSETS
from engines.loading.tokenizers import load_tokenizer
from engines.media.framing import letterbox
from engines.qwen.chat import read, text_then_pictures, tokenise
from engines.qwen.keys import QWEN
from engines.qwen.pictures import look
from engines.sampling import guidance
from engines.sampling.denoise import unipc
from engines.training.bindweave.networks import MAX_PIXELS
from engines.training.files import read_facts
from engines.training.recipes import bindweave as recipe
from engines.wan import vae as wan_vae
from engines.wan.encoder_keys import IMAGE_ENCODER, TEXT_ENCODER
from engines.wan.image import encode_image
from engines.wan.latents import latent_shape
from engines.wan.text import encode_text, padded
from engines.wan.vae_keys import VAE

STARTER = ASSETS / "starter"
PROMPT = "the striped one jumps and the dotted one slides to the right, sky background"
OTHER = "the striped one spins and the dotted one falls, sky background"

# Class of a network, or of a half of one, and what a call of it is called here.
COUNTED = {
    "UMT5EncoderModel": "text encoder",
    "CLIPVisionModel": "image encoder",
    "Qwen2_5_VisionTransformerPretrainedModel": "Qwen's eyes",
    "Qwen2_5_VLTextModel": "Qwen reads",
    "WanEncoder3d": "autoencoder, pieces in",
    "BindWeaveTransformer3DModel": "transformer",
    "WanDecoder3d": "autoencoder, pieces out",
}
LOADED = "networks loaded"
# One job after another, as people work: the same again with another seed, then another prompt about the same pictures.
JOBS = (("a first job", PROMPT, 1), ("the same with another seed", PROMPT, 2), ("another prompt", OTHER, 1))


@dataclasses.dataclass(frozen=True)
class Size:
    """What each job makes."""

    width: int = 96
    height: int = 64
    frames: int = 33
    steps: int = 20


def write_starter(folder: Path) -> None:
    """A starter with random weights, as training writes it, beside the shipped parts that it shares."""
    torch.manual_seed(0)
    told = dataclasses.replace(recipe.RECIPE, start="", files=str(STARTER), compiled=False)
    task = recipe.build(told)
    torch.nn.init.normal_(task.transformer.proj_out.weight, std=0.02)
    task.export(folder, {name: dict(network.named_parameters()) for name, network in task.networks().items()}, {})
    for path in STARTER.iterdir():
        if path.name not in STARTER_FILES.values():
            (folder / path.name).symlink_to(path)


def pictures() -> tuple[np.ndarray, ...]:
    """Two pictures that the project ships."""
    names = ("orange_ball.png", "red_star.png")
    return tuple(np.asarray(Image.open(ASSETS / "examples" / name).convert("RGB").resize((96, 96))) for name in names)


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """Counts every call of a network inside."""
    found: Counter[str] = Counter()

    def count(module: torch.nn.Module, _: Any) -> None:
        if (name := COUNTED.get(type(module).__name__)) is not None:
            found[name] += 1

    hook = register_module_forward_pre_hook(count)
    try:
        yield found
    finally:
        hook.remove()


class Published:
    """The published stages, with this project's functions: what is compared is which networks they run, and when.

    Args:
        folder: of the starter files; `work` keeps what the first stage hands to the second.
    """

    def __init__(self, folder: Path, work: Path, size: Size) -> None:
        self.folder, self.work, self.size = folder, work, size
        self.loads = 0
        model = starter(folder)
        self.files = {part.role: folder.parent / part.files[0] for part in model.weights}
        self.defaults = dict(model.defaults)

    def make(self, prompt: str, given: tuple[np.ndarray, ...], *, seed: int) -> np.ndarray:
        """A clip uint8 [T,H,W,3]."""
        images = [Image.fromarray(picture) for picture in given]
        texts = {"cond": prompt, "uncond": ""}
        self._read({"cond": prompt, "uncond": read_on("")}, images)
        return self._sample(texts, images, seed)

    def _load(self, role: str, kind: Architecture) -> Any:
        self.loads += 1
        return load(open_checkpoint([self.files[role]]), kind, dtype=torch.float32)

    def _read(self, texts: dict[str, str], images: list[Image.Image]) -> None:
        """Stage: hidden states of both texts, each read with the pictures from the beginning, into files."""
        qwen, tokenizer = self._load("mllm", QWEN), load_tokenizer(self.files["mllm_tokenizer"])
        for name, text in texts.items():
            seen = reference_patches(images, max_pixels=MAX_PIXELS)
            ids = tokenise(tokenizer, text_then_pictures(text, seen.tokens))
            torch.save(read(qwen, ids, look(qwen, seen), seen.grids), self.work / f"{name}.pt")

    @torch.no_grad()
    def _sample(self, texts: dict[str, str], images: list[Image.Image], seed: int) -> np.ndarray:
        """Stage: the clip. The first picture is also encoded as a main image, and that is never used."""
        size, text_len = self.size, read_facts(self.files["transformer"])["text_len"]
        frame = {"width": size.width, "height": size.height}
        encoder, tokenizer = self._load("text_encoder", TEXT_ENCODER), load_tokenizer(self.files["tokenizer"])
        states = {name: encode_text(encoder, tokenizer, text, text_len=text_len) for name, text in texts.items()}
        readings = {
            name: Reading(torch.load(self.work / f"{name}.pt"), padded(found.states, text_len=text_len))
            for name, found in states.items()
        }
        clip, vae = self._load("image_encoder", IMAGE_ENCODER), self._load("vae", VAE)
        canvases = [letterbox(image, **frame) for image in images]
        shown = [np.array(canvas.image) for canvas in canvases]
        side = clip.config.image_size
        looks = [encode_image(clip, clip_pixels(picture, size=side))[0] for picture in (shown[0], *shown)][1:]
        latents = [wan_vae.encode(vae, wan_vae.to_pixels(picture))[0] for picture in (shown[0], *shown)][1:]
        grey = wan_vae.encode_grey(vae, **frame, frames=size.frames)
        rows, columns = grey.shape[-2:]
        masks = [latent_mask(np.array(canvas.mask), rows=rows, columns=columns) for canvas in canvases]
        references = reference_frames(latents, masks, slots=MAX_REFERENCES)
        generator = torch.Generator().manual_seed(seed)
        shape = latent_shape(vae.config, **frame, frames=size.frames)
        *_, last = sample(
            self._load("transformer", BINDWEAVE),
            noise=torch.randn(shape, generator=generator, dtype=torch.bfloat16).float(),
            condition=with_clip_frames(references, grey),
            clip=clip_states(looks, slots=MAX_REFERENCES),
            readings=readings,
            weights=guidance.text_weights(self.defaults["guidance"]),
            scheduler=unipc(size.steps, shift=self.defaults["shift"]),
        )
        return np.concatenate(list(wan_vae.decode_frames(vae, last.latents, rounded=True)))


@dataclasses.dataclass(frozen=True)
class Made:
    """A job of one way: its clip, what it called, and the seconds of CPU that it took; other processes do not count."""

    clip: np.ndarray
    calls: Counter[str]
    seconds: float


def compared(folder: Path, size: Size) -> list[tuple[str, Made, Made]]:
    """(job, ours, the published stages) for every one of JOBS, one after another."""
    given, settings = pictures(), dataclasses.asdict(size)
    product = Product("bindweave", model=starter(folder), folder=folder)
    rows = []
    for name, prompt, seed in JOBS:
        made = []
        with tempfile.TemporaryDirectory() as work:
            stages = Published(folder, Path(work), size)
            for way, told in ((product, settings), (stages, {})):
                kept = len(product.session.cache.state()) if way is product else 0
                with calls() as counted:
                    began = time.process_time()
                    clip = way.make(prompt, given, seed=seed, **told)
                    seconds = time.process_time() - began
                loads = stages.loads if way is stages else len(product.session.cache.state()) - kept
                made.append(Made(clip, counted + Counter({LOADED: loads}), seconds))
        rows.append((name, *made))
    return rows


class Copies(TorchDispatchMode):
    """Bytes that are copied inside: what is cloned, joined, or made to lie one after another."""

    _COPYING = ("clone", "cat", "copy_", "_to_copy", "contiguous", "repeat", "stack")

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.__name__.split(".")[0] in self._COPYING and isinstance(made, torch.Tensor):
            self.largest = max(self.largest, made.nbytes)
        return made


@torch.no_grad()
def copied_by_attention(network: BindWeaveTransformer3DModel, tokens: int) -> tuple[int, int]:
    """(bytes of the largest copy in cross-attention to a context of `tokens` tokens, bytes of that context)."""
    width = network.config.num_attention_heads * network.config.attention_head_dim
    context, attention = torch.randn(1, tokens, width), network.blocks[0].attn2
    with Copies() as copies:
        attention(torch.randn(1, 4, width), context)
    return copies.largest, context.nbytes


def table(rows: list[tuple[str, Made, Made]]) -> list[str]:
    """A line for every network and job."""
    lines = [f"{'':30}{'one job':>10}{'published':>11}"]
    for name, ours, theirs in rows:
        lines.append(name)
        lines += [f"  {what:28}{ours.calls[what]:10}{theirs.calls[what]:11}" for what in (*COUNTED.values(), LOADED)]
        apart = int(np.abs(ours.clip.astype(int) - theirs.clip).max())
        lines.append(f"  {'seconds of CPU':28}{ours.seconds:10.1f}{theirs.seconds:11.1f}")
        lines.append(f"  the clips differ by at most {apart} of 255 levels")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bindweave", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=Size.steps, help="denoising steps of every clip")
    size = Size(steps=parser.parse_args().steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "starter"
        write_starter(folder)
        lines = table(compared(folder, size))
        network = load(open_checkpoint([folder / STARTER_FILES["transformer"]]), BINDWEAVE, dtype=torch.float32)
        largest, context = copied_by_attention(network, 2913)
    print("\n".join(lines))
    print(f"cross-attention to a context of {context:,} bytes copies at most {largest:,} of them")


if __name__ == "__main__":
    main()
