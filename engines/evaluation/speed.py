"""How long the default clip of a starter takes on this machine: warm, and as a newcomer's first command."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from engines.inputs import PICTURES, media_fields
from engines.registry import SPECS
from engines.training.world import WorldConfig, make_clip

from .product import Product

ENGINES = tuple(name for name, spec in SPECS.items() if any(model.name == "starter" for model in spec.models))
PROMPT = "a blue circle moves right, sand background"


def _pictures(engine: str) -> tuple[np.ndarray, ...]:
    """What the engine's clip is made from besides the prompt: a picture where it needs one."""
    needed = [declared for declared in media_fields(SPECS[engine].request_type, *PICTURES).values() if declared.needed]
    if not needed:
        return ()
    return (make_clip((49, 0), WorldConfig(two_subjects=0.0)).frames[0],)


def warm_seconds(engine: str, *, repeats: int) -> float:
    """Median of clips made one after another, each with its own seed; the first one, which loads, does not count."""
    product, pictures, took = Product(engine), _pictures(engine), []
    for seed in range(repeats + 1):
        began = time.monotonic()
        product.make(PROMPT, pictures, seed=seed)
        took.append(time.monotonic() - began)
    return float(np.median(took[1:]))


def cold_seconds(engine: str) -> float:
    """From starting `python -m studio generate` until its file is there and the process has ended."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "studio", "generate", engine, "--prompt", PROMPT, "--seed", "0"]
        for index, picture in enumerate(_pictures(engine)):
            path = Path(name) / f"{index}.png"
            Image.fromarray(picture).save(path)
            command += ["--ref", str(path)]
        began = time.monotonic()
        subprocess.run([*command, "--out", f"{name}/clip.mp4"], check=True, capture_output=True)
        return time.monotonic() - began
