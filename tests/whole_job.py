"""python -m tests.whole_job: a clip of the published BindWeave, every network at its real size, within little memory.

Writes files of the published names, shapes and precisions whose weights are holes in the file (zeros that take no
disk), and makes one small clip through the product: store, planner, engine. Prints what each stage took and the peak
memory of the process. What the clip shows means nothing. Run by hand: the whole takes a quarter of an hour of a core,
for a processor computes 16 billion parameters; `--layers 2` keeps two blocks of every network.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from engines.events import Stage
from engines.loading import integrity
from engines.loading.shards import is_index
from engines.loading.store import ASSETS, Store
from engines.registry import SPECS, implementation
from engines.runtime.session import Session
from engines.types import Frames, ModelSpec, Weights
from engines.validation import build_request
from tests.full_size import MANIFESTS, SHARDS, Shapes, peak_bytes

# Role -> its published keys, and the precision of the published file.
NETWORKS = {
    "transformer": ("bindweave_dit", "BF16"),
    "vae": ("wan21_i2v_diffusers_vae", "F32"),
    "text_encoder": ("wan21_i2v_diffusers_text_encoder", "F32"),
    "image_encoder": ("wan21_i2v_diffusers_image_encoder", "F32"),
    "mllm": ("bindweave_qwen2_5_vl_7b", "BF16"),
}
BYTES = {"BF16": 2, "F32": 4}
WORDS = ("<pad>", "</s>", "<unk>", "system", "user", "assistant", "a", "red", "ball", "and", "star", "jump")
# The published ids of the control tokens, which the network's configuration names.
CONTROL = {
    "<|im_start|>": 151_644,
    "<|im_end|>": 151_645,
    "<|vision_start|>": 151_652,
    "<|vision_end|>": 151_653,
    "<|image_pad|>": 151_655,
}
BLOCK = re.compile(r"(?:^|\.)(?:blocks|block|layers)\.(\d+)\.")


def main() -> None:
    """Reads the arguments, prints the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.whole_job", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, help="keep only the first LAYERS blocks of every network")
    parser.add_argument("--memory-gb", type=float, default=8.0, help="most memory that the networks may use")
    parser.add_argument("--folder", type=Path, help="where the temporary files go")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kinora-whole-job-", dir=arguments.folder))
    try:
        run(folder, layers=arguments.layers, memory_bytes=int(arguments.memory_gb * 1e9))
    finally:
        shutil.rmtree(folder)


def run(folder: Path, *, layers: int | None, memory_bytes: int) -> np.ndarray:
    """Writes, makes, prints a line a stage -> the clip uint8 [T,H,W,3]."""
    spec = SPECS["bindweave"]
    model = spec.model("14B")
    size = write_model(folder, model, layers=layers)
    print(f"files of {size / 1e9:.1f} GB; {memory_bytes / 1e9:.1f} GB may be used", flush=True)
    session = Session("cpu", store=Store(models=folder), memory_bytes=memory_bytes)
    examples = [str(ASSETS / "examples" / name) for name in ("orange_ball.png", "red_star.png")]
    values = {"prompt": "a ball and a star jump", "width": 64, "height": 64, "frames": 5, "steps": 1, "seed": 1}
    references = [{"path": path, "keep_background": True} for path in examples]
    request = build_request(spec, {"model": model.name, "references": references, **values})
    before, began, stage, clip = peak_bytes(), time.monotonic(), "", []

    def report() -> None:
        if stage:
            used = (peak_bytes() - before) / 1e9
            print(f"{stage:36} {time.monotonic() - began:7.1f} s  peak memory +{used:.2f} GB so far", flush=True)

    for event in implementation(spec).generate(request, session.context(spec.name, model)):
        if isinstance(event, Stage):
            report()
            stage, began = event.name, time.monotonic()
        elif isinstance(event, Frames):
            clip.append(event.pixels)
    report()
    made = np.concatenate(clip)
    print(f"a clip of {made.shape[0]} frames of {made.shape[2]}x{made.shape[1]}", flush=True)
    return made


def write_model(folder: Path, model: ModelSpec, *, layers: int | None) -> int:
    """All files of the model in a models folder; returns the bytes of their weights."""
    total = 0
    for weights in model.weights:
        place = folder / weights.repo
        if weights.role in NETWORKS:
            manifest, dtype = NETWORKS[weights.role]
            total += write_network(place / weights.files[0], published(manifest, layers), dtype)
        else:
            for file in weights.files:
                (place / file).parent.mkdir(parents=True, exist_ok=True)
                write_tokenizer(place / file, weights)
    return total


def published(manifest: str, layers: int | None) -> Shapes:
    """{published key: shape}, of the first `layers` blocks of every list of them."""
    shapes: Shapes = json.loads((MANIFESTS / f"{manifest}.json").read_text(encoding="utf-8"))["keys"]
    numbers = {key: BLOCK.search(key) for key in shapes}
    if layers is None or "vae" in manifest:  # an autoencoder's blocks are no stack of equals
        return shapes
    return {key: shape for key, shape in shapes.items() if not numbers[key] or int(numbers[key][1]) < layers}


def write_network(path: Path, shapes: Shapes, dtype: str) -> int:
    """A checkpoint whose weights are holes: one file, or shards and their index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_index(path.name):
        return write_holes(path, shapes, dtype)
    keys, names = list(shapes), {}
    stem = path.name.removesuffix(".safetensors.index.json")
    share = -(-len(keys) // SHARDS)
    total = 0
    for number in range(SHARDS):
        if held := keys[number * share : (number + 1) * share]:
            shard = f"{stem}-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
            total += write_holes(path.with_name(shard), {key: shapes[key] for key in held}, dtype)
            names |= dict.fromkeys(held, shard)
    path.write_text(json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8")
    return total


def write_holes(path: Path, shapes: Shapes, dtype: str) -> int:
    """A safetensors file of zeros that were never written; returns their bytes."""
    header, offset = {}, 0
    for key, shape in shapes.items():
        end = offset + math.prod(shape) * BYTES[dtype]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        size = 8 + len(text) + offset
        file.truncate(size)
        # A small number wherever the product looks whether a download was filled.
        for index in range(1, integrity._SAMPLES):
            file.seek(max(8 + len(text), (size - integrity._SAMPLE_BYTES) * index // (integrity._SAMPLES - 1)))
            file.write(b"\1" if size > integrity._SAMPLES * integrity._SAMPLE_BYTES else b"")
    return offset


def write_tokenizer(path: Path, weights: Weights) -> None:
    """A tokenizer of a few words, with the published ids of the control tokens where it is the multimodal model's."""
    if not path.name.startswith("tokenizer.json"):
        path.write_text("{}", encoding="utf-8")
        return
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    if weights.role == "mllm_tokenizer":
        vocabulary |= CONTROL
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([word for word in vocabulary if word.startswith("<|")])
    tokenizer.save(str(path))


if __name__ == "__main__":
    main()
