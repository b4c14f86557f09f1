"""Clips through the product's own generation path: files from the store, the engine, its published defaults."""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from engines.bench import Bench
from engines.registry import SPECS, implementation
from engines.request import Reference
from engines.store import Store
from engines.types import Frames


class Product:
    """One engine's model, kept warm between clips. `folder` replaces the shipped starter files."""

    def __init__(self, engine: str, *, model: str = "starter", folder: Path | None = None) -> None:
        self.spec = SPECS[engine]
        self.model = self.spec.model(model)
        store = Store() if folder is None else Store(assets=folder.parent)
        self.bench = Bench("cpu", store=store)
        self.engine = implementation(self.spec)

    def make(
        self, prompt: str, references: tuple[np.ndarray, ...], *, seed: int, **settings: object
    ) -> tuple[np.ndarray, float]:
        """A clip uint8 [T,H,W,3] with the model's default settings, and the seconds it took."""
        with tempfile.TemporaryDirectory() as name:
            paths = []
            for index, picture in enumerate(references):
                paths.append(Path(name) / f"{index}.png")
                Image.fromarray(picture).save(paths[-1])
            values = self.spec.default_values(self.model.name) | {
                "prompt": prompt,
                "references": tuple(Reference(path=path) for path in paths),
                "seed": seed,
                **settings,
            }
            request = self.spec.request_type(**values)
            began = time.monotonic()
            made = self.engine.generate(request, self.bench.context(self.spec.name, self.model))
            frames = [item.pixels for item in made if isinstance(item, Frames)]
        return np.concatenate(frames), time.monotonic() - began
