"""The published set of text encoders on tiny networks: T5's states, CLIP's pooled vectors, cutting, who fits whom."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from engines.errors import IncompatibleCheckpoint
from engines.prompting.tokens import tokenise
from engines.pyramid_flow.components import PyramidModel
from engines.pyramid_flow.text import load_clip_tokenizer
from engines.types import Weights
from tests.engines import tiny_pyramid
from tests.engines.tiny_pyramid import PyramidContext
from tests.engines.tiny_wan import seeded, write, write_tokenizer

T5 = {"vocab_size": 12, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
      "feed_forward_proj": "gated-gelu"}  # fmt: skip
CLIP = {"vocab_size": 58, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
        "max_position_embeddings": 77, "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 2,
        "pad_token_id": 1}  # fmt: skip


def write_clip_tokenizer(folder: Path) -> tuple[Path, ...]:
    letters = "abcdefghijklmnopqrstuvwxyz,"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    return folder / "vocab.json", folder / "merges.txt"


def context(folder: Path, family: str) -> PyramidContext:
    """The tiny model with the encoders that are published for its family."""
    kind, count = (CLIPTextModelWithProjection, 2) if family == "sd3" else (CLIPTextModel, 1)
    files = tiny_pyramid.write_model(folder, family)
    files["text_encoder"] = (write(folder / "t5.safetensors", seeded(lambda: T5EncoderModel(T5Config(**T5))), T5),)
    files["clip_tokenizer"] = write_clip_tokenizer(folder)
    for role in ("clip", "clip_2")[:count]:
        config = CLIP if count == 2 else CLIP | {"hidden_size": 16, "num_attention_heads": 2}
        network = seeded(lambda config=config: kind(CLIPTextConfig(**config)))
        files[role] = (write(folder / f"{role}.safetensors", network, config),)
    made = PyramidContext(files)
    made.model = replace(tiny_pyramid.MODEL, weights=tuple(Weights(role, ()) for role in files))
    return made


@pytest.mark.parametrize("family", ["miniflux", "sd3"])
def test_a_prompt_has_states_and_a_pooled_vector(family: str, tmp_path: Path) -> None:
    here = context(tmp_path, family)
    model = PyramidModel.find(here)
    text, cut = model.prompt(here, "a red star")
    assert text.states.shape == (1, 4, 16) and text.pooled.shape == (1, 16) and cut == ""
    other, _ = model.prompt(here, "a blue star")
    assert not torch.equal(text.pooled, other.pooled) and not torch.equal(text.states, other.states)
    builds = dict(here.builds)
    assert torch.equal(model.prompt(here, "a red star").text.states, text.states) and here.builds == builds


def test_encoders_of_another_size_are_refused(tmp_path: Path) -> None:
    here = context(tmp_path, "sd3")
    here.model = replace(here.model, weights=tuple(w for w in here.model.weights if w.role != "clip_2"))
    with pytest.raises(IncompatibleCheckpoint, match=r"clip\.safetensors has 8 pooled text channels"):
        PyramidModel.find(here)


def test_a_clip_without_its_projection_is_refused_by_the_sd3_family(tmp_path: Path) -> None:
    here = context(tmp_path, "sd3")
    network = seeded(lambda: CLIPTextModel(CLIPTextConfig(**CLIP)))
    here.files["clip"] = (write(tmp_path / "bare.safetensors", network, CLIP),)
    with pytest.raises(IncompatibleCheckpoint, match="is not a CLIP text encoder with its projection"):
        PyramidModel.find(here)


def test_clip_tokens_have_a_start_and_an_end(tmp_path: Path) -> None:
    tokenizer = load_clip_tokenizer(write_clip_tokenizer(tmp_path))
    assert tokenise(tokenizer, "Red  star", length=77) == ([56, 55, 18, 19, 0, 44, 57], 9)
    assert tokenise(tokenizer, "red star, red fox", length=6) == ([56, 55, 18, 19, 0, 57], 7)


def test_tokens_beyond_the_length_are_told(tmp_path: Path) -> None:
    here = context(tmp_path, "miniflux")
    write_tokenizer(tmp_path / "tokenizer.json")
    model = PyramidModel.find(here)
    text, cut = model.prompt(here, "red " * 11 + "blue star", suffix=" moves")
    assert text.states.shape[1] == model.text_len == 12 and cut == "blue star"
