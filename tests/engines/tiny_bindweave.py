"""A complete BindWeave model of a few kilobytes, a Qwen2.5-VL of the real class in it, and a context that counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import CLIPVisionConfig, CLIPVisionModel, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.bindweave.spec import BINDWEAVE
from engines.types import Component, Geometry, ModelSpec, Weights
from tests.engines import tiny_wan
from tests.engines.tiny_wan import TEXT_LEN, WORDS, CountingContext, seeded, write
from tests.engines.tiny_wan import TRANSFORMER as WAN

CLIP_WIDTH, CLIP_TOKENS, MLLM_WIDTH = 12, 5, 24
TRANSFORMER = WAN | {
    "in_channels": 12, "image_dim": CLIP_WIDTH, "added_kv_proj_dim": 32, "mllm_dim": MLLM_WIDTH,
    "clip_token_len": CLIP_TOKENS,
}  # fmt: skip
IMAGE_ENCODER = {
    "hidden_size": CLIP_WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "patch_size": 14, "image_size": 28, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
CONTROL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN = {
    "text_config": {
        "hidden_size": MLLM_WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 64, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 2]},
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
    },
    "vision_config": {
        "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": MLLM_WIDTH,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        "fullatt_block_indexes": [1], "in_channels": 3, "tokens_per_second": 2,
    },
    "vision_start_token_id": 2, "vision_end_token_id": 3, "image_token_id": 4, "video_token_id": 5,
}  # fmt: skip

# Published name -> runtime name, by the table of the specification; None where the runtime has no such tensor.
TO_RUNTIME = (
    (r"^condition_embedder\.text_embedder\.", "text_embedding."),
    (r"^condition_embedder\.text_projector\.", "text_projector."),
    (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"^condition_embedder\.time_proj", "time_projection.1"),
    (r"^condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"^condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"^scale_shift_table", "head.modulation"),
    (r"^proj_out", "head.head"),
    (r"\.attn2\.norm_added_k", ".cross_attn.k_norm_img"),
    (r"\.attn2\.add_([kv])_proj", r".cross_attn.\1_img"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"_attn\.norm_([qk])", r"_attn.\1_norm"),
    (r"_attn\.to_([qkv])", r"_attn.proj_\1"),
    (r"_attn\.to_out\.0", "_attn.proj_out"),
    (r"\.ffn\.net\.0\.proj", ".ffn.0"),
    (r"\.ffn\.net\.2", ".ffn.2"),
    (r"^(blocks\.\d+)\.norm2", r"\1.norm3"),
    (r"^(blocks\.\d+)\.scale_shift_table", r"\1.modulation"),
)
# Runtime name -> the name in Wan's own way.
TO_WAN = (
    (r"^text_embedding\.linear_1", "text_embedding.0"),
    (r"^text_embedding\.linear_2", "text_embedding.2"),
    (r"^text_projector\.linear_1", "text_projection.0"),
    (r"^text_projector\.linear_2", "text_projection.2"),
    (r"_attn\.k_norm_img", "_attn.norm_k_img"),
    (r"_attn\.([qk])_norm", r"_attn.norm_\1"),
    (r"_attn\.proj_([qkv])", r"_attn.\1"),
    (r"_attn\.proj_out", "_attn.o"),
)


def transformer() -> BindWeaveTransformer3DModel:
    return seeded(lambda: BindWeaveTransformer3DModel(**TRANSFORMER))


def noise(width: int, height: int, *, seed: int = 3) -> Image.Image:
    """A picture of noise, the same each time: of some of it the tiny model has nothing to say."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def qwen(*, loud: bool = False) -> Qwen2_5_VLForConditionalGeneration:
    """With `loud` weights its answers vary; the class's own start makes every word about equally likely."""
    network = seeded(lambda: Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**QWEN)))
    if loud:
        for parameter in network.parameters():
            parameter.mul_(8.0 if parameter.dim() > 1 else 1.0)
    return network


def renamed(tensors: dict[str, torch.Tensor], *rules: tuple[tuple[str, str], ...]) -> dict[str, torch.Tensor]:
    """The tensors under the names that the rules give, one table after another."""
    for table in rules:
        for pattern, replacement in table:
            tensors = {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def write_qwen_tokenizer(path: Path) -> Path:
    """Words and control tokens as the published tokenizer has them: nothing is added to a text."""
    vocabulary = {name: index for index, name in enumerate((*CONTROL, "<unk>", *WORDS, "system", "user", "assistant"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    tokenizer.save(str(path))
    return path


ROLES = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "mllm", "mllm_tokenizer")
MODEL = ModelSpec(
    name="tiny",
    title="Tiny",
    note="",
    weights=tuple(Weights(role, ()) for role in ROLES),
    geometry=Geometry(
        sizes=((96, 64), (64, 64)), multiple=8, max_pixels=128 * 64, frame_stride=4, max_frames=17, min_side=32
    ),
    defaults={"width": 96, "height": 64, "frames": 9, "steps": 2, "negative_prompt": "a left circle"},
)
SPEC = replace(BINDWEAVE, models=(MODEL, *BINDWEAVE.models))


def image_encoder() -> CLIPVisionModel:
    return seeded(lambda: CLIPVisionModel(CLIPVisionConfig(**IMAGE_ENCODER)))


def write_model(folder: Path) -> dict[str, tuple[Path, ...]]:
    """All files of the model, by role."""
    (folder / "qwen").mkdir(exist_ok=True)
    files = tiny_wan.write_model(folder)
    return files | {
        "transformer": (write(folder / "bindweave.safetensors", transformer(), TRANSFORMER, text_len=TEXT_LEN),),
        "image_encoder": (write(folder / "image_encoder.safetensors", image_encoder(), IMAGE_ENCODER),),
        "mllm": (write(folder / "qwen" / "model.safetensors", qwen(), QWEN),),
        "mllm_tokenizer": (write_qwen_tokenizer(folder / "qwen" / "tokenizer.json"),),
    }


class BindWeaveContext(CountingContext):
    """A counting Context for the tiny model. It counts the halves of the multimodal model apart, and encoded videos;
    networks are used one after another, never two at once."""

    model = MODEL
    _COUNTED = {
        "mllm": {"model.visual": "vision", "model.language_model": "language"},
        "vae": {"quant_conv": "encoded"},
    }

    @contextmanager
    def use(self, component: Component, *, working_bytes: int = 0) -> Iterator[Any]:
        assert not (self.in_use and component.role), f"{self.in_use} is still in use"
        with super().use(component, working_bytes=working_bytes) as module:
            for path, name in self._COUNTED.get(component.role, {}).items():
                part = module.get_submodule(path)
                if not getattr(part, "counted", False):
                    part.counted = True
                    part.register_forward_pre_hook(lambda *_, name=name: self.passes.update([name]))
            yield module
