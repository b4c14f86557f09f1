"""A model's tokenizer: its file among the model's, checked before it is trusted with a prompt."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tokenizers import Tokenizer

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading.integrity import damaged
from engines.types import Context

# Tokens of a text that count, as a file may say it.
TextLen = Annotated[int, Field(ge=1, le=4096)]

FILE = "tokenizer.json"
MAX_BYTES = 128 * 2**20
# How many times longer a text may become before it is cut into tokens; published tokenizers make it twice as long.
MOST_GROWTH = 1000


def tokenizer_file(context: Context, role: str = "tokenizer") -> Path:
    """The tokenizer.json of a model; raises MissingWeights."""
    path = next((path for path in context.paths(role) if path.name == FILE), None)
    if path is None or not path.is_file():
        raise MissingWeights(f"{FILE} is not on this machine.", hint="Download the model's files first.")
    return path


def stamp(path: Path) -> tuple[str, int, int]:
    """Names the present content of a tokenizer's file: what is remembered of a text holds for it alone."""
    try:
        status = path.stat()
    except OSError:  # who reads it says so
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json file, without padding or truncation of its own; read once while it stays.

    Raises:
        IncompatibleCheckpoint: it is no tokenizer, or one that makes texts endless.
    """
    return _load(path, stamp(path))


@lru_cache(maxsize=4)
def _load(path: Path, _stamp: Any) -> Tokenizer:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("larger than any vocabulary")
        content = path.read_text(encoding="utf-8")
        steps = json.loads(content)
        grows = _growth(steps.get("normalizer")) * _growth(steps.get("post_processor"))
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise damaged(path) from error
    if grows > MOST_GROWTH:
        raise IncompatibleCheckpoint(
            f"{path.name} makes texts too long to be read.", hint="Use the file that was published with the model."
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _growth(step: Any) -> float:
    """How many times longer a step of a tokenizer can make a text; what Unicode's own forms add is not counted."""
    if not isinstance(step, dict):
        return 1
    match step.get("type"):
        case "Sequence":
            return math.prod(map(_growth, step.get("normalizers") or step.get("processors") or ()))
        case "Replace":
            return max(1, len(step.get("content", "")))
        case "Prepend":
            return 1 + len(step.get("prepend", ""))
        case "TemplateProcessing":
            return max(1, len(step.get("single", ())))
        case _:
            return 1
