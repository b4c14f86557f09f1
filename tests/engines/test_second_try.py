"""Where memory runs out a clip is made once more, with the same seed, in the next lower plan; and says so."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from engines.messages import Generate
from engines.phantom_wan import engine
from engines.runtime import second_try
from engines.runtime.device_service import DeviceService
from engines.runtime.settings import RuntimeSettings
from tests.engines.tiny import TINY, write_checkpoint

REQUEST = {"prompt": "A red star moves right.", "width": 48, "height": 48, "frames": 5, "steps": 2}


def pixels(path: str) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def made(folder: Path, service: DeviceService, job: str, **values: Any) -> list[Any]:
    folder.mkdir(exist_ok=True)
    picture = folder / "picture.png"
    Image.new("RGB", (48, 48), "red").save(picture)
    request = REQUEST | {"references": [{"path": str(picture)}]} | values
    return list(service.make(Generate(job=job, engine="phantom-wan", request=request)))


class Hungry:
    """The transformer's passes, on a device that has not the memory for several in one batch."""

    def __init__(self, *, always: bool = False) -> None:
        self.real, self.always, self.tries = engine.predict, always, Counter[bool]()

    def __call__(self, network: Any, latents: torch.Tensor, *inputs: Any, **more: Any) -> torch.Tensor:
        several = latents.shape[0] > 1
        self.tries[several] += 1
        if several or self.always:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.real(network, latents, *inputs, **more)


@pytest.fixture
def service(tmp_path: Path) -> DeviceService:
    return DeviceService(RuntimeSettings(device="cpu", outputs=tmp_path / "outputs"))


def test_the_second_try_makes_the_same_clip_and_says_so(
    service: DeviceService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hungry = Hungry()
    monkeypatch.setattr(engine, "predict", hungry)
    said = made(tmp_path, service, "second")
    clip = said[-1].result
    assert hungry.tries[True] == 1 and hungry.tries[False] >= 2
    ran_out, lower = clip.notes
    assert "Memory ran out in the transformer" in ran_out and "same seed" in ran_out
    assert lower == "A Wan video transformer worked one pass at a time: there was not the memory for more at once."
    assert [event.message for event in said if event.type == "note"] == [*clip.notes]
    assert json.loads(Path(clip.sidecar).read_text(encoding="utf-8"))["notes"] == [*clip.notes]
    monkeypatch.undo()
    (plain,) = [event.result for event in made(tmp_path, service, "plain", seed=clip.request["seed"])[-1:]]
    different = np.abs(pixels(plain.video).astype(int) - pixels(clip.video).astype(int))
    assert plain.notes == () and plain.request == clip.request
    assert different.mean() < 5, "the same clip, up to the rounding of a batch: other seeds differ by 30 and more"


def test_a_seed_is_drawn_once_for_both_tries(
    service: DeviceService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    real = second_try.run

    def noted(spec: Any, request: Any, *given: Any, **told: Any) -> Any:
        seeds.append(request.seed)
        return real(spec, request, *given, **told)

    monkeypatch.setattr(second_try, "run", noted)
    monkeypatch.setattr(engine, "predict", Hungry())
    made(tmp_path, service, "second")
    assert len(seeds) == 2 and seeds[0] == seeds[1] >= 0


def test_there_is_one_second_try(service: DeviceService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hungry = Hungry(always=True)
    monkeypatch.setattr(engine, "predict", hungry)
    failed = made(tmp_path, service, "failed")[-1]
    assert (failed.type, failed.kind) == ("failed", "OutOfMemory") and "5 frames of 48x48" in failed.message
    assert hungry.tries == {True: 1, False: 1}
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == []
    assert service.status().components == (), "and everything was freed"


def test_what_has_nothing_lower_fails_with_its_first_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import registry

    monkeypatch.setitem(registry.SPECS, TINY.name, TINY)
    write_checkpoint(tmp_path / "models")
    service = DeviceService(RuntimeSettings(device="cpu", outputs=tmp_path, models=tmp_path / "models"))
    order = Generate(job="a", engine="tiny", request={"prompt": "a bear", "fault": "memory"})
    said = list(service.make(order))
    assert sum(event.type == "stage" and event.name == "Denoising" for event in said) == 2, "it was tried again"
    assert said[-1].kind == "OutOfMemory" and "9 frames of 64x48" in said[-1].message
