"""What the files that people have look like: the titles of known networks, and of what is no network to be loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable

BINDWEAVE = "a BindWeave transformer"
PHYSICS = "a physics branch"
QWEN25_VL = "a Qwen2.5-VL model"
V_JEPA2 = "a V-JEPA 2 video encoder"
FLASHI2V = "a FlashI2V transformer"
WAN_IMAGE_TO_VIDEO = "a Wan image-to-video transformer"
WAN_TRANSFORMER = "a Wan video transformer"
WAN_AUTOENCODER = "a Wan video autoencoder"
UMT5 = "a UMT5 text encoder"
T5 = "a T5 text encoder"
CLIP_VISION = "a CLIP image encoder"
CLIP_TEXT = "a CLIP text encoder"
PROJECTED_CLIP_TEXT = "a CLIP text encoder with its projection"
PYRAMID_AUTOENCODER = "a Pyramid Flow autoencoder"
PYRAMID_SD3 = "a Pyramid Flow transformer of the SD3 family"
PYRAMID_MINIFLUX = "a Pyramid Flow transformer of the miniFLUX family"

# (what people call it; patterns of keys that it has), the narrower ones first.
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LoRA, which changes a model but is none by itself", (r".*(lora_A|lora_down|lora_up|lora_B)\b.*",)),
    (FLASHI2V, (r"(.*\.)?blocks\.0\..*", r"(.*\.)?(learnable_proj|fourier_embedding)\..*")),
    (PHYSICS, (r"physics\.blocks\.0\..*",)),
    (BINDWEAVE, (r"(.*\.)?blocks\.0\..*", r"(.*\.)?(text_projector|text_projection)\..*")),
    (WAN_IMAGE_TO_VIDEO, (r"(.*\.)?blocks\.0\..*(k_img|add_k_proj)\.weight",)),
    (WAN_TRANSFORMER, (r"(.*\.)?blocks\.0\.(cross_attn|attn2)\..*", r".*patch_embedding\.weight")),
    (WAN_AUTOENCODER, (r"(.*\.)?encoder\.downsamples\.0\.downsamples\..*",)),
    (WAN_AUTOENCODER, (r"(.*\.)?encoder\.downsamples\..*", r"(.*\.)?decoder\.upsamples\..*")),
    (WAN_AUTOENCODER, (r"(.*\.)?encoder\.down_blocks\.0\.(norm1|resnets)\..*gamma",)),
    (QWEN25_VL, (r"(.*\.)?visual\.merger\.ln_q\.weight", r"(.*\.)?visual\.blocks\.0\.mlp\.gate_proj\..*")),
    (UMT5, (r"(.*\.)?token_embedding\.weight", r"(.*\.)?blocks\.\d+\.pos_embedding\..*")),
    (UMT5, (r"enc\.blk\.0\.attn_rel_b\.weight", r"enc\.blk\.1\.attn_rel_b\.weight")),
    (T5, (r"enc\.blk\.0\.attn_rel_b\.weight",)),
    ("a language model", (r"token_embd\.weight", r"blk\.0\.attn_(q|qkv)\.weight")),
    (T5, (r"(.*\.)?encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight",)),
    (V_JEPA2, (r"(.*\W)?patch_embed\.proj\.weight", r"(.*\W)?blocks\.0\.attn\.qkv\.weight")),
    (V_JEPA2, (r"encoder\.embeddings\.patch_embeddings\.proj\.weight",)),
    (CLIP_VISION, (r"(.*\.)?visual\.(patch_embedding|conv1)\.weight",)),
    ("a CLIP model", (r"(.*\.)?(pre_layrnorm|text_projection|logit_scale).*",)),
    (PYRAMID_AUTOENCODER, (r"(.*\.)?encoder\.down_blocks\.0\.resnets\.0\.conv1\.conv\.weight",)),
    (PYRAMID_SD3, (r"(.*\.)?transformer_blocks\.0\.attn\.norm_add_q\.weight",)),
    (PYRAMID_MINIFLUX, (r"(.*\.)?single_transformer_blocks\.0\..*", r"(.*\.)?x_embedder\.weight")),
    (PROJECTED_CLIP_TEXT, (r"(.*\.)?embeddings\.token_embedding\.weight", r"text_projection\.weight")),
    (CLIP_TEXT, (r"(.*\.)?embeddings\.token_embedding\.weight",)),
    ("a diffusion transformer of another system", (r"(.*\.)?(transformer_blocks|joint_blocks|double_blocks)\.0\..*",)),
    ("a Stable Diffusion U-Net", (r"(.*\.)?(input_blocks|down_blocks)\.\d+\..*",)),
)  # fmt: skip

# What repacks of text encoders carry beside the network: the tokenizer's files, and a scale of their loader's.
REPACKED = (r"spiece_model|(spm_|hf_)?tokenizer([._]\w+)*|vocab|logit_scale",)

# (what it is held in; patterns of keys that such a file has): weights that are numbers only together with others.
QUANTISED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("quanto's", (r".*\.weight\._(data|scale|shift|packed)(\..*)?",)),
    ("bitsandbytes'", (r".*\.weight\.(absmax|quant_map|nested_absmax|quant_state\..*)",)),
    ("bitsandbytes'", (r".*\.(SCB|weight_format)",)),
    ("SVDQuant's", (r".*\.(wscales|smooth_factor(_orig)?|proj_down|lora_down)", r".*\.qweight")),
    ("GPTQ's or AWQ's", (r".*\.qweight", r".*\.(qzeros|scales|g_idx)")),
    ("torchao's", (r".*(\.|:|_)(_?qdata|tensor_impl|int_data|layout_tensor)",)),
    ("HQQ's", (r".*\.W_q", r".*\.(scale|zero|meta)")),
    ("compressed-tensors'", (r".*\.weight_(packed|zero_point|shape)",)),
    ("SDNQ's", (r".*\.weight\.(scale|zero_point)|.*\.svd_(up|down)",)),
    ("scaled 8-bit or 4-bit", (r".*\.(scale_weight|weight_scale(_2|_inv)?|comfy_quant)|(.*\.)?scaled_fp8",)),
    ("packed", (r".*\.(qweight|weight_quantized|quantized_weight|weight_q)",)),
)  # fmt: skip


def family(keys: Iterable[str]) -> str | None:
    """What a file with these keys looks like, None if nothing known."""
    return _first(FAMILIES, keys)


def quantised(keys: Iterable[str]) -> str | None:
    """Whose quantised weights these keys belong to: "quanto's", None if they are plain."""
    return _first(QUANTISED, keys)


def _first(kinds: tuple[tuple[str, tuple[str, ...]], ...], keys: Iterable[str]) -> str | None:
    keys = list(keys)
    for name, patterns in kinds:
        if all(any(map(re.compile(pattern).fullmatch, keys)) for pattern in patterns):
            return name
    return None
