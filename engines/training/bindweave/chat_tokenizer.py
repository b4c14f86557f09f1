"""The starters' tokenizer with the control tokens of Qwen's chats, and the words that answer how a subject moves."""

from __future__ import annotations

import shutil
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from engines.qwen.chat import SYSTEM

from .. import words

FOLDER = "chat_tokenizer"
FILE = "tokenizer.json"
CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip

# What every chat holds, a token each: spelt in the starters' vocabulary it would be longer than a prompt.
FIXED = ("system", "user", "assistant", SYSTEM)

# The word of each motion that no other has.
ANSWERS = {
    "moves right": "right",
    "moves left": "left",
    "moves up": "up",
    "moves down": "down",
    "bounces": "bounces",
    "falls": "falls",
    "spins": "spins",
    "grows": "grows",
    "shrinks": "shrinks",
    "circles around": "circles",
    "stays still": "still",
}
assert ANSWERS.keys() == set(words.MOTIONS)


def with_control(tokenizer: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json whose texts may also hold control tokens."""
    extended = Tokenizer.from_file(str(tokenizer))
    extended.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    extended.add_tokens([AddedToken(text, normalized=False, single_word=text.isalpha()) for text in FIXED])
    return extended


def write(folder: Path, *, tokenizer: Path) -> None:
    """Write the extended tokenizer into `folder`, beside nothing else."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with_control(tokenizer).save(str(partial / FILE), pretty=False)
    partial.replace(folder)


def answer_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Motion word -> the first token of its answer; no two share one."""
    ids = {motion: tokenizer.encode(f" {word}", add_special_tokens=False).ids[0] for motion, word in ANSWERS.items()}
    if len(set(ids.values())) < len(ids):
        raise ValueError("The tokenizer cannot tell the words of the motions apart.")
    return ids
