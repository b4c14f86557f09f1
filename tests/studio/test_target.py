"""The file that a command makes: what may stand under its name and beside it, and what is never lost for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from engines.errors import MediaError
from engines.events import Clip
from engines.loading.integrity import FACTS_KEY
from engines.media import metadata
from engines.media.metadata import Metadata
from engines.phantom_physics import view
from studio.one_clip import BadOutput, Target
from tests.studio.server import ROOT
from tests.studio.test_doors import here as here
from tests.studio.test_doors import names


@pytest.mark.parametrize("what", ["a note", "a folder", "a dead link", "a picture"])
def test_no_foreign_file_beside_a_clip_is_touched(what: str, here: Path) -> None:
    for suffix in (".json", ".latents.safetensors"):
        path = here / f"clip{suffix}"
        if what == "a folder":
            path.mkdir()
        elif what == "a dead link":
            path.symlink_to("nowhere")
        else:
            path.write_bytes(b"{}" if what == "a note" else bytes(range(256)))
    before = names(here)
    with Target(Path("clip.mp4")) as target:
        made = {name: target.folder / f"job{name}" for name in (".mp4", ".json", ".latents.safetensors")}
        for path in made.values():
            path.write_text("made")
        result = target.take(
            Clip(
                video=str(made[".mp4"]), sidecar=str(made[".json"]), poster="", request={}, seconds={}, peak_bytes=0,
                beside=(str(made[".latents.safetensors"]),),
            )
        )  # fmt: skip
    assert result.sidecar == str(here / "clip-2.json") and result.beside == (str(here / "clip-2.latents.safetensors"),)
    assert len(result.notes) == 2 and all("-2" in note for note in result.notes)
    assert names(here) == sorted([*before, b"clip.mp4", b"clip-2.json", b"clip-2.latents.safetensors"])


SETTINGS = Metadata(engine="phantom-wan", model="starter", prompt="x", seed=1, parameters={}).model_dump_json()
LATENTS = save({}, metadata={FACTS_KEY: "{}"})


def finished(target: Target, *suffixes: str, content: bytes = b"new") -> Clip:
    """A clip as a worker leaves it in the target's folder."""
    made = {suffix: target.folder / f"job{suffix}" for suffix in (target.path.suffix, ".json", *suffixes)}
    for suffix, path in made.items():
        path.write_bytes(SETTINGS.encode() if suffix == ".json" else content)
    video, sidecar, *beside = map(str, made.values())
    return Clip(video=video, sidecar=sidecar, poster="", request={}, seconds={}, peak_bytes=0, beside=tuple(beside))


def test_what_stood_beside_the_clip_that_is_replaced_goes_with_it(here: Path) -> None:
    movie = view.movie(torch.randn(3, 2, 2, 2), width=32, height=32, fps=12)
    for suffix, content in ((".mp4", b"old"), (".json", SETTINGS.encode()), (".latents.safetensors", LATENTS),
                            (".physics.webp", movie)):  # fmt: skip
        (here / f"clip{suffix}").write_bytes(content)
    (here / "clip.v2.json").write_text(SETTINGS)  # another clip's
    with Target(Path("clip.mp4")) as target:
        result = target.take(finished(target, ".physics.webp"))
    left = ["clip.json", "clip.mp4", "clip.physics.webp", "clip.v2.json", "star.png"]
    assert result.notes == () and names(here) == [*map(os.fsencode, left)]
    assert (here / "clip.physics.webp").read_bytes() == b"new"


@pytest.mark.parametrize("last", [".mp4", ".physics.webp"])
def test_a_clip_that_cannot_get_its_name_changes_nothing(
    last: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "clip.mp4").write_bytes(b"old")
    (here / "clip.json").write_text(SETTINGS)
    (here / "clip.latents.safetensors").write_bytes(LATENTS)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    replace = Path.replace

    def refused(path: Path, target: Path) -> Path:
        if target == here / f"clip{last}":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    with Target(Path("clip.mp4")) as target:
        made = finished(target, ".physics.webp")
        monkeypatch.setattr(Path, "replace", refused)
        with pytest.raises(MediaError, match="disk is full"):
            target.take(made)
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize("name", ["clip.mp4", "./../here/clip.mp4", "link.mp4"])
def test_what_a_clip_is_made_from_is_not_replaced_by_it(name: str, here: Path) -> None:
    (here / "clip.mp4").write_bytes(b"mine")
    (here / "link.mp4").symlink_to("clip.mp4")
    with pytest.raises(BadOutput, match="which would be lost"):
        Target(Path(name), inputs=[here / "star.png", here / "clip.mp4"])
    latents = here / "new.latents.safetensors"
    latents.write_bytes(LATENTS)
    with Target(Path("new.mp4"), inputs=[latents]) as target:
        result = target.take(finished(target, ".latents.safetensors"))
    assert result.beside == (str(here / "new-2.latents.safetensors"),) and latents.read_bytes() == LATENTS


def test_pictures_of_a_clip_have_settings_of_their_own(here: Path) -> None:
    (here / "clip.mp4").write_bytes(b"old")
    (here / "clip.json").write_text(SETTINGS)
    (here / "clip.latents.safetensors").write_bytes(LATENTS)
    with Target(Path("clip.gif"), suffix=".gif") as target:
        result = target.take(finished(target))
    assert (here / "clip.latents.safetensors").read_bytes() == LATENTS, "they are the clip's"
    assert result.sidecar == str(here / "clip.gif.json") and (here / "clip.json").read_text() == SETTINGS
    (here / "clip.gif.json").write_text(SETTINGS.replace('"seed":1', '"seed":2'))
    assert [metadata.read(here / name).seed for name in ("clip.gif", "clip.mp4")] == [2, 1]


@pytest.mark.parametrize("name", ["n" * 233 + ".mp4", "星" * 80 + ".mp4", ".mp4", "/"])
def test_a_name_under_which_not_all_can_stand_is_refused_at_once(name: str, here: Path) -> None:
    with pytest.raises(BadOutput, match=r"too long|a name of its own"):
        Target(Path(name))
    with Target(Path("n" * 232 + ".mp4")) as target:
        target.take(finished(target, ".latents.safetensors"))


def test_a_signal_that_was_ignored_at_the_start_stays_so() -> None:
    program = "import signal; from studio import one_clip; print([one.name for one in one_clip.SIGNALS])"
    words = ["sh", "-c", f"trap '' HUP; exec {sys.executable} -c '{program}'"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "SIGHUP" not in said and "SIGTERM" in said


def test_what_a_killed_command_left_is_cleaned_by_the_next(here: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=60)
    (here / f".kinora-{gone.pid}-abc").mkdir()
    (here / f".kinora-{os.getpid()}-abc").mkdir()
    with Target(Path("clip.mp4")), pytest.raises(BadOutput):
        Target(Path("clip.txt"))
    assert names(here) == [os.fsencode(f".kinora-{os.getpid()}-abc"), b"star.png"]
