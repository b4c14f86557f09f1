"""Clips through the product's own generation path: files from the store, the engine, its published defaults."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from engines.inputs import PICTURES, GivenClip, Reference, media_fields
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
        overrides = {}
        if transformer:
            files = {weights.role: weights.files for weights in self.model.weights}
            same = [role for role, names in files.items() if names == files["transformer"]]  # in one file with it
            overrides = {(engine, self.model.name, role): transformer for role in same}
            if "vae" in (facts := facts_of(transformer)):
                overrides[engine, self.model.name, "vae"] = (folder or ASSETS / "starter") / facts["vae"]
        store = Store(assets=folder.parent, overrides=overrides) if folder else Store(overrides=overrides)
        self.session = Session(device, store=store)
        self.engine = implementation(self.spec)

    def make(
        self,
        prompt: str,
        references: tuple[np.ndarray, ...],
        *,
        seed: int,
        clip: np.ndarray | None = None,
        **settings: object,
    ) -> np.ndarray:
        """A clip uint8 [T,H,W,3] with the model's default settings; references may be none.

        Args:
            clip: frames uint8 [k,H,W,3] that it goes on from, all of them.
        """
        with tempfile.TemporaryDirectory() as name:
            paths = []
            if clip is not None:
                fps = settings.get("fps") or self.spec.default_values(self.model.name)["fps"]
                path = write_exact(Path(name) / "clip.mp4", clip, fps=int(fps))
                settings["clip"] = GivenClip(path=path, frames=len(clip))
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


def write_exact(path: Path, frames: np.ndarray, *, fps: int) -> Path:
    """Frames uint8 [T,H,W,3] as a video that loses nothing, so that what is measured is the model."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=fps, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path
