"""What a clip says about its own making: one schema for the mp4's comment, the sidecar and the poster."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engines import __version__
from engines.loading.integrity import FACTS_KEY
from engines.request import Declared, Request
from engines.types import ModelSpec

SCHEMA = "kinora.video"
MAX_BYTES = 1_000_000
LOG_MARK = b"Kinora: what the worker said\n"
VIEW_SUFFIX, VIEW_MARK = ".physics.webp", b"Kinora: the physics of a clip"
_HASHED_WHOLE = 256 * 2**20
_LIBRARIES = ("torch", "diffusers", "transformers", "av", "numpy")


class Metadata(BaseModel):
    """Everything needed to make the clip again. Read back as untrusted input: no path or code of it is used."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, protected_namespaces=())

    schema_name: Literal["kinora.video"] = SCHEMA
    schema_version: Literal[1] = 1
    app: dict[str, str] = {}
    engine: str
    model: str
    parameters: dict[str, Any]
    prompt: str = ""
    negative_prompt: str = ""
    seed: int
    noise: str = ""
    inputs: list[dict[str, Any]] = []
    checkpoints: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    device: str = ""
    precisions: dict[str, str] = {}  # role -> what that network computed in
    computed: dict[str, str] = {}  # how else: "attention" -> "torch"
    seconds: dict[str, float] = {}
    peak_bytes: int = 0
    figures: dict[str, float] = {}  # what was measured of the finished clip
    notes: list[str] = []
    made_from: list[dict[str, Any]] = []  # of an edited clip: what each clip that went in says of itself


def describe(
    engine: str,
    request: Request,
    *,
    model: ModelSpec,
    files: Mapping[str, Iterable[Path]],
    device: str,
    precisions: Mapping[str, str],
    computed: Mapping[str, str] = MappingProxyType({}),
) -> Metadata:
    """The metadata of a run that is about to start; `files` are the checkpoint files by role."""
    parameters, inputs = _without_paths(request.model_dump(mode="python"))
    return Metadata(
        app={"name": "Kinora", "version": __version__},
        engine=engine,
        model=model.name,
        parameters=parameters,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        noise="drawn on the CPU in float32",
        inputs=inputs,
        checkpoints=[
            {"role": weights.role, "repo": weights.repo} | _checkpoint(path)
            for weights in model.weights
            for path in files.get(weights.role, ())
        ],
        versions=_versions(),
        device=device,
        precisions=dict(precisions),
        computed=dict(computed),
    )


def describe_edit(engine: str, asked: Declared, *, source: Path, notes: Sequence[str]) -> Metadata:
    """The metadata of an edit: what was done, and what the clip that was edited says of its own making."""
    parameters, inputs = _without_paths(asked.model_dump(mode="python"))
    told = read(source)
    kept = ("engine", "model", "prompt", "seed", "parameters", "made_from")
    return Metadata(
        app={"name": "Kinora", "version": __version__},
        engine=engine,
        model=told.model if told else "",
        parameters=parameters,
        prompt=told.prompt if told else "",
        negative_prompt=told.negative_prompt if told else "",
        seed=told.seed if told else -1,
        inputs=inputs,
        versions=_versions(),
        notes=list(notes),
        made_from=[told.model_dump(mode="json", include=set(kept))] if told else [],
    )


def tags(told: Metadata, *, inside: bool, marked: bool = True) -> dict[str, str]:
    """What stands in the clip itself: its settings, if they may be `inside`, and that a generator made it, if so."""
    settings = {"title": told.prompt[:120], "comment": told.model_dump_json(exclude={"seconds", "peak_bytes"})}
    return (settings if inside else {}) | ({"description": "AI-generated video"} if marked else {})


def read(path: Path) -> Metadata | None:
    """The metadata inside a video, else that of its sidecar; None if there is none that can be trusted to be ours."""
    import av

    text = ""
    try:
        with av.open(str(path)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            text = tags.get("comment", "")
    except (OSError, av.FFmpegError):
        text = ""
    if metadata := parse(text):
        return metadata
    for sidecar in (path.with_name(f"{path.name}.json"), path.with_suffix(".json")):
        with suppress(OSError, UnicodeDecodeError):
            if sidecar.stat().st_size <= MAX_BYTES:
                return parse(sidecar.read_text(encoding="utf-8"))
    return None


def parse(text: str) -> Metadata | None:
    """`text` as metadata; None if it is too long, no JSON, or of another schema."""
    if not text or len(text) > MAX_BYTES:
        return None
    try:
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("schema_name") != SCHEMA:
            return None
        return Metadata.model_validate(values)
    except (ValueError, ValidationError, RecursionError):
        return None


def is_ours(path: Path) -> bool:
    """Whether a file beside a clip was written by Kinora: its settings, latents or physics, or the log of a failure."""
    try:
        with path.open("rb") as file:
            start = file.read(MAX_BYTES)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * len(VIEW_MARK)))
            end = file.read()
    except OSError:
        return False
    if start.startswith(b"RIFF") and VIEW_MARK in end:
        return True
    if start.startswith(LOG_MARK) or parse(start.decode(errors="replace")) is not None:
        return True
    length = int.from_bytes(start[:8], "little")  # safetensors: the length of a JSON header, then the header
    try:
        return FACTS_KEY in json.loads(start[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def sha256(path: Path) -> str:
    """SHA-256 of a whole file: from the name of one kept by content, or computed once while it stays the same."""
    if (known := _named_by_content(path)) is not None:
        return known
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _checkpoint(path: Path) -> dict[str, Any]:
    """Name, size and identity of a checkpoint file, without reading gigabytes.

    In the hub cache the blob is named by its hash and the snapshot by its revision; a small file is hashed; of a
    large one elsewhere only the size is told.
    """
    entry: dict[str, Any] = {"file": path.name, "bytes": path.stat().st_size}
    if path.parent.parent.name == "snapshots" or "snapshots" in path.parts:
        entry["revision"] = path.parts[path.parts.index("snapshots") + 1]
    if (known := cheap_sha256(path)) is not None:
        entry["sha256"] = known
    return entry


def cheap_sha256(path: Path) -> str | None:
    """SHA-256 of a file whose name tells it, or that is small enough to be read for it; None of others."""
    if (known := _named_by_content(path.resolve())) is not None:
        return known
    return sha256(path) if path.stat().st_size <= _HASHED_WHOLE else None


def _named_by_content(path: Path) -> str | None:
    """The hash in the name of a file that the hub's cache or the studio named by it."""
    kept = path.parent.name in ("blobs", "pictures")
    return path.stem if kept and len(path.stem) == 64 and set(path.stem) <= set("0123456789abcdef") else None


def _without_paths(values: Any, field: str = "") -> tuple[Any, list[dict[str, Any]]]:
    """`values` with every path replaced by the file's name, and one entry of name and hash for each of them."""
    if isinstance(values, Path):
        return values.name, [{"field": field, "file": values.name, "sha256": sha256(values)}]
    inputs: list[dict[str, Any]] = []
    if isinstance(values, Mapping):
        plain: Any = {}
        for key, value in values.items():
            plain[key], found = _without_paths(value, f"{field}.{key}".lstrip("."))
            inputs += found
        return plain, inputs
    if isinstance(values, list | tuple):
        plain = []
        for index, value in enumerate(values):
            item, found = _without_paths(value, f"{field}[{index}]")
            plain.append(item)
            inputs += found
        return plain, inputs
    return values, inputs


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
