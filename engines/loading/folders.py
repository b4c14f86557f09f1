"""Which files of a folder are a checkpoint, when a person points at the folder. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from engines.errors import IncompatibleCheckpoint
from engines.loading.shards import is_index, shard_names

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".gguf")
# What libraries call a network alone in its folder.
USUAL = ("diffusion_pytorch_model", "model", "pytorch_model")
# What training leaves beside a network.
BESIDE = (
    "optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args", "trainer_state", "zero_pp_rank",
    "bf16_zero_pp_rank",
)  # fmt: skip


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The files of the checkpoint in a folder: those of an index, else one of a usual name, else all of one suffix.

    Files that an index lists may be missing. Hidden files, and what training left beside a network, are skipped.
    """
    if not folder.is_dir():
        return ()
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", *BESIDE)))
    for index in sorted((path for path in files if is_index(path.name)), key=lambda path: _rank(path.name)):
        if listed := _listed(index):
            return listed
    for suffix in SUFFIXES:
        found = [path for path in files if path.suffix.lower() == suffix]
        usual = sorted((path for path in found if path.stem in USUAL), key=lambda path: USUAL.index(path.stem))
        if found:
            return tuple(usual[:1] or found)
    return ()


def _rank(name: str) -> tuple[bool, int]:
    """Safetensors before pickles, the whole precision before variants such as "fp16"."""
    return ".safetensors." not in name, len(name)


def _listed(index: Path) -> tuple[Path, ...]:
    """The files that an index lists, none if it is no index or none of them is there."""
    try:
        listed = tuple(index.with_name(name) for name in shard_names(index))
    except IncompatibleCheckpoint:
        return ()
    return listed if any(path.is_file() for path in listed) else ()
