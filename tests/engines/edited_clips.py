"""Clips to edit, the edits as a worker makes them, and what is seen and heard of what comes out."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np

from engines.editing import runner, spec
from engines.editing.source import SOUND_RATE, read_sound
from engines.events import Clip, Done, Step
from engines.media.metadata import Metadata
from engines.media.video import read_frames
from tests.studio.kept_clips import moving, write_clip

FRAMES, FPS = 17, 12
TOLD = Metadata(engine="phantom-wan", model="starter", parameters={"seed": 3}, prompt="a star", seed=3)


def write_clips(folder: Path) -> Path:
    """A clip that Kinora made, one of another size and rate, one with sound, and a recording of half a second."""
    write_clip(folder / "clip.mp4", moving(FRAMES, 96, 64), fps=FPS, comment=TOLD.model_dump_json())
    write_clip(folder / "other.mp4", moving(20, 64, 96, colour=(20, 200, 40)), fps=10)
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        tone = np.sin(np.arange(4000) / 8000 * 440 * 2 * np.pi) * np.linspace(1, 0.2, 4000)
        file.writeframes((tone * 20_000).astype("<i2").tobytes())
    made = edited(folder, folder, "sound", sound={"path": str(folder / "tone.wav")}, fade=0)
    Path(made.video).rename(folder / "loud.mp4")
    return folder


def edited(
    folder: Path,
    out: Path,
    name: str,
    *,
    clip: str = "clip.mp4",
    session: Any = None,
    inside: bool = True,
    **values: Any,
) -> Clip:
    """The result of an edit of one of the clips."""
    edit = spec.find(name)
    asked = spec.build(edit, {"clip": {"path": str(folder / clip)}} | values)
    told = {"output_dir": out, "job_id": "made", "inside": inside}
    events = list(runner.run(edit, asked, **told, session=session or (lambda: None)))
    assert isinstance(events[-1], Done)
    steps = [event for event in events if isinstance(event, Step)]
    assert all(step.index <= step.total for step in steps)
    assert {path.name for path in out.iterdir() if ".part" in path.name} == set()
    return events[-1].result


def pixels(path: str | Path) -> np.ndarray:
    return np.stack(list(read_frames(Path(path))))


def near(one: np.ndarray, other: np.ndarray, *, most: float = 2.0) -> bool:
    """Whether frames are the same up to the codec."""
    return one.shape == other.shape and float(np.abs(one.astype(int) - other).mean()) < most


def loudness(path: str | Path, *, backwards: bool = False) -> np.ndarray:
    """How loud each tenth of a second is."""
    sound = read_sound(Path(path))[:: -1 if backwards else 1]
    step = SOUND_RATE // 10
    return np.array([np.abs(sound[start : start + step]).mean() for start in range(0, len(sound) - step, step)])
