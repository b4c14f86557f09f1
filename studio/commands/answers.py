"""What a command answers: its exit codes, a clip, or in one sentence why there is none; also as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from engines.events import Clip
from studio import speech

FAILED, BAD_REQUEST, CANCELLED = 1, 2, 130


def report(kind: str, text: str, *, as_json: bool, code: int, problems: Sequence[dict[str, Any]] = ()) -> int:
    """Say in one sentence why there is no clip: on stderr, and as JSON on stdout where that was asked for."""
    speech.say(text, sys.stderr)
    if as_json:
        speech.say(json.dumps({"error": {"kind": kind, "message": text, "problems": list(problems)}}))
    return code


def say_clip(made: Clip, about: str = "", *, as_json: bool) -> int:
    """Say where a finished clip is, with a word about it: its seed, unless another is given."""
    if as_json:
        speech.say(json.dumps(made.model_dump(mode="json", exclude={"poster"})))
    else:
        about = about or f"seed {made.request['seed']}"
        speech.say(f"{made.video} ({about}, {made.seconds.get('total', 0):.1f} s)")
    return 0
