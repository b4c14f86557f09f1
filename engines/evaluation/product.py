"""Clips through the product's own generation path: files from the store, the engine, its published defaults."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from engines.inputs import PICTURES, Reference, media_fields
from engines.loading.store import ASSETS, Store
from engines.registry import SPECS, implementation
from engines.runtime.session import Session
from engines.types import Frames, ModelSpec
from engines.wan.starter import facts_of


class Product:
    """One engine's model, kept warm between clips.

    Args:
        model: its name, or a model that the engine does not list.
        folder: replaces the shipped starter files.
        transformer: replaces the model's transformer, and its autoencoder by the one that it was trained on.
    """

    def __init__(
        self,
        engine: str,
        *,
        model: str | ModelSpec = "starter",
        folder: Path | None = None,
        transformer: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.spec = SPECS[engine]
        if isinstance(model, ModelSpec):
            self.spec = replace(self.spec, models=(model,))
        self.model = model if isinstance(model, ModelSpec) else self.spec.model(model)
        name = self.model.name
        overrides = {(engine, name, "transformer"): transformer} if transformer else {}
        if transformer and "vae" in (facts := facts_of(transformer)):
            overrides[engine, name, "vae"] = (folder or ASSETS / "starter") / facts["vae"]
        store = Store(assets=folder.parent, overrides=overrides) if folder else Store(overrides=overrides)
        self.session = Session(device, store=store)
        self.engine = implementation(self.spec)

    def make(self, prompt: str, references: tuple[np.ndarray, ...], *, seed: int, **settings: object) -> np.ndarray:
        """A clip uint8 [T,H,W,3] with the model's default settings; references may be none."""
        with tempfile.TemporaryDirectory() as name:
            paths = []
            for index, picture in enumerate(references):
                paths.append(Path(name) / f"{index}.png")
                Image.fromarray(picture).save(paths[-1])
            shown = tuple(Reference(path=path) for path in paths)
            takes, declared = next(iter(media_fields(self.spec.request_type, *PICTURES).items()))
            pictures = {takes: shown if declared.most > 1 else shown[0]} if shown else {}
            told = {"prompt": prompt, "seed": seed, **pictures, **settings}
            values = self.spec.default_values(self.model.name) | told
            request = self.spec.request_type(**values)
            made = self.engine.generate(request, self.session.context(self.spec.name, self.model))
            frames = [item.pixels for item in made if isinstance(item, Frames)]
        return np.concatenate(frames)
