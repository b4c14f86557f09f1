"""The settings that a video of another program, or of Kinora, tells of its making. Untrusted: only values are taken.

Wan2GP writes one JSON into the comment, ComfyUI its graph under "prompt" and "workflow" (comfy.py), its video nodes
(VHS) that graph in the comment, SD.Next a text in the manner of A1111. Nothing of it is used as a path or as code.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from engines.errors import MediaError
from engines.media import comfy, metadata
from engines.media.clips import open_container
from engines.media.metadata import MAX_BYTES, Metadata

_MOST_TEXT = 20_000
_PNG = b"\x89PNG\r\n\x1a\n"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

# What others call a setting -> the name of ours.
_WAN2GP = {
    "prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "num_inference_steps": "steps",
    "video_length": "frames", "guidance_scale": "guidance_scale", "flow_shift": "shift",
}  # fmt: skip
_A1111 = {"steps": "steps", "seed": "seed", "cfg scale": "guidance_scale", "frames": "frames", "shift": "shift"}
_WHOLE = ("seed", "steps", "frames", "width", "height", "fps")


@dataclass(frozen=True)
class Told:
    """What a video says of its making.

    Attributes:
        program: who wrote it.
        settings: by our own names; texts and finite numbers only.
        own: all of it, where Kinora wrote it.
    """

    program: str
    settings: dict[str, str | int | float] = field(default_factory=dict)
    own: Metadata | None = None


def read(path: Path) -> Told | None:
    """The settings in a video's own metadata, or in a PNG file's; None where there are none that are known here.

    Raises:
        MediaError: it is no video, or damaged.
    """
    tags = _tags(path)
    comment = tags.get("comment", "")
    if own := metadata.parse(comment) or metadata.parse(tags.get("kinora", "")):
        return Told("Kinora", own=own)
    for text in (tags.get("prompt", ""), comment):
        values = _object(text)
        if graph := comfy.graph_of(values, _object):
            return Told("ComfyUI", _of_graph(graph))
        if values is not None and "prompt" in values and ("video_length" in values or "model_type" in values):
            return Told("Wan2GP", _of_wan2gp(values))
    for text in (comment, tags.get("description", ""), tags.get("parameters", "")):
        if re.search(r"\bSteps: \d", text):
            return Told("SD.Next", _of_infotext(text))
    if graph := comfy.graph_of({"workflow": tags.get("workflow", "")}, _object):
        return Told("ComfyUI", _of_graph(graph))
    return None


def _tags(path: Path) -> dict[str, str]:
    """What a video, or a PNG file, says of itself, by names in small letters."""
    import av

    with path.open("rb") as file:
        is_png = file.read(len(_PNG)) == _PNG
    try:
        if is_png:  # ComfyUI and its nodes for videos keep the graph in a picture beside the clip
            with Image.open(path) as picture:
                said: dict[Any, Any] = dict(picture.info)
        else:
            with open_container(path) as container:
                said = dict(container.metadata)
    except (av.FFmpegError, OSError, ValueError, SyntaxError) as error:
        raise MediaError("This video is damaged, so it tells nothing of its making.") from error
    return {
        str(name).lower(): value for name, value in said.items() if isinstance(value, str) and len(value) <= MAX_BYTES
    }


def _of_graph(graph: comfy.Graph) -> dict[str, str | int | float]:
    found = comfy.settings(graph, text=_text, number=_number)
    return {name: int(value) if name in _WHOLE else value for name, value in found.items()}


def _object(text: Any) -> dict[str, Any] | None:
    """JSON as an object; None for anything else."""
    try:
        values = json.loads(text) if isinstance(text, str) and text.lstrip().startswith("{") else text
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _of_wan2gp(values: Mapping[str, Any]) -> dict[str, str | int | float]:
    found = _named(values, _WAN2GP)
    if size := re.fullmatch(r"(\d{2,5})x(\d{2,5})", str(values.get("resolution", ""))):
        found |= {"width": int(size[1]), "height": int(size[2])}
    return found


def _of_infotext(text: str) -> dict[str, str | int | float]:
    """A prompt, perhaps a line "Negative prompt: ...", and a last line of "Name: value" pairs."""
    head, _, tail = text.replace("\r\n", "\n").rpartition("Steps: ")
    prompt, _, negative = head.partition("Negative prompt:")
    pairs = re.findall(r"([A-Za-z][\w ]{0,40}):\s*(\"[^\"]{0,500}\"|[^,\n]{1,200})", f"Steps: {tail}")
    values = {name.strip().lower(): value.strip().strip('"') for name, value in pairs}
    found = _named(values, _A1111)
    if size := re.fullmatch(r"(\d{2,5})x(\d{2,5})", values.get("size", "")):
        found |= {"width": int(size[1]), "height": int(size[2])}
    texts = {"prompt": prompt.strip().rstrip(","), "negative_prompt": negative.strip().rstrip(",")}
    return found | {name: plain for name, said in texts.items() if (plain := _text(said))}


def _named(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str | int | float]:
    """The known ones of some values under our names, each a text or a number."""
    found: dict[str, str | int | float] = {}
    for theirs, ours in names.items():
        value = values.get(theirs)
        if ours in ("prompt", "negative_prompt"):
            if isinstance(value, str) and (said := _text(value)):
                found.setdefault(ours, said)
        elif (number := _number(value)) is not None:
            found.setdefault(ours, int(number) if ours in _WHOLE else number)
    return found


def _number(value: Any) -> float | None:
    """A finite number, also one written as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value) if not isinstance(value, str) or len(value) < 40 else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(said: str) -> str:
    return _CONTROL.sub(" ", said)[:_MOST_TEXT].strip()
