"""What each edit of a finished clip is told: declared once, for page, command line, API and metadata."""

from __future__ import annotations

from typing import Any, Literal

from engines.inputs import GivenClip, SoundFile, UpscalerFile, media
from engines.request import Declared, parameter

MAX_SECONDS = 600


def seconds(default: float, *, label: str, help: str, maximum: float = MAX_SECONDS) -> Any:
    """A length of time or a moment of a clip."""
    return parameter(default, label=label, help=help, group="clip", unit="s", minimum=0, maximum=maximum, step=0.05)


class EditRequest(Declared):
    """What every edit takes. Edits subclass it and add their own fields."""

    clip: GivenClip | None = media(
        "clip", label="Clip", help="The clip that is edited; it stays as it is.", needed="Choose the clip to edit."
    )


class Trim(EditRequest):
    """A part of a clip."""

    start: float = seconds(0, label="From", help="Where the part begins.")
    end: float = seconds(0, label="To", help="Where it ends; 0 is the end of the clip.")


class Join(EditRequest):
    """Another clip behind a clip."""

    then: GivenClip | None = media(
        "clip", label="Then", help="The clip that follows; it is fitted to the first one's size and frame rate.",
        needed="Choose the clip that follows.",
    )  # fmt: skip
    fade: float = seconds(0.5, label="Cross-fade", help="How long one goes over into the other; 0 cuts.", maximum=10)


class Reverse(EditRequest):
    """A clip backwards, with its sound."""


class Loop(EditRequest):
    """A clip several times."""

    times: int = parameter(
        2, label="Times", help="How often it is played.", group="clip", minimum=1, maximum=20, step=1
    )  # fmt: skip
    way: Literal["again", "there and back"] = parameter(
        "again", label="Way", help="From its start again each time, or forwards and then backwards.", group="clip"
    )


class Smooth(EditRequest):
    """Frames between the frames, drawn along the motion."""

    factor: int = parameter(
        2, label="Frames for each", help="How many frames become of one.", group="clip", minimum=2, maximum=8, step=1
    )
    slow: bool = parameter(
        False,
        label="Slow motion",
        help="Play at the same frame rate, so that the clip becomes longer; without it, motion becomes smoother.",
        group="clip",
    )


class Captions(EditRequest):
    """Words in the picture."""

    text: str = parameter(
        "",
        label="Captions",
        help="One caption for the whole clip, or one a line with its time, or the text of an SRT file.",
        group="prompt",
        max_length=20_000,
        lines=4,
        placeholder="0-2: A star rises.\n2-4: It falls.",
    )
    place: Literal["bottom", "top", "middle"] = parameter(
        "bottom", label="Place", help="Where the words stand.", group="clip"
    )
    size: float = parameter(
        8, label="Size", help="Height of the letters, of the picture's height.", group="clip", unit="%", minimum=2,
        maximum=30, step=0.5,
    )  # fmt: skip


class Soundtrack(EditRequest):
    """Sound for a clip, in place of what it has."""

    sound: SoundFile | None = media(
        "sound", label="Sound", help="A WAV, MP3, M4A, FLAC or Ogg file, or a video with sound.",
        needed="Choose a file with sound.",
    )  # fmt: skip
    start: float = seconds(0, label="From", help="Where in the file the sound begins.")
    volume: float = parameter(
        1.0, label="Volume", help="1 is as it is.", group="clip", minimum=0, maximum=4, step=0.05
    )  # fmt: skip
    fade: float = seconds(0.5, label="Fade", help="How long it fades in, and out at the end.", maximum=10)
    repeat: bool = parameter(True, label="Repeat", help="Begin again where the file is shorter.", group="clip")


class Upscale(EditRequest):
    """A larger clip, by a network that somebody has."""

    network: UpscalerFile | None = media(
        "upscaler", label="Network", help="An ESRGAN-family file: .pth or .safetensors.",
        needed="Choose the file of an upscaling network, such as one of the ESRGAN family.",
    )  # fmt: skip


class Export(EditRequest):
    """A moving picture for where no videos go."""

    format: Literal["gif", "webp", "avif"] = parameter(
        "gif", label="Format", help="GIF goes everywhere; WebP and AVIF are smaller and have all colours.", group="clip"
    )
    side: int = parameter(
        480, label="Longest side", help="Larger clips are made smaller.", group="clip", unit="px", minimum=32,
        maximum=1920, step=16,
    )  # fmt: skip
    rate: int = parameter(
        12, label="Frame rate", help="At most; never more than the clip has.", group="clip", unit="fps", minimum=1,
        maximum=50, step=1,
    )  # fmt: skip
    quality: int = parameter(
        80, label="Quality", help="Of WebP and AVIF.", group="clip", minimum=1, maximum=100, step=1, advanced=True
    )
