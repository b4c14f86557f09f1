"""Refining by Qwen2.5-VL on the device that makes the clips, through the same cache as every network.

The larger of the two is the one that BindWeave reads with, from the same files: where it is loaded already, it is used.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from engines.events import Answer, Words
from engines.loading.networks import networks
from engines.loading.tokenizers import load_tokenizer, tokenizer_file
from engines.media.pictures import open_picture
from engines.memory import activations
from engines.messages import Ask
from engines.prompting import rules
from engines.prompting.drafts import draft_of, in_small_world
from engines.prompting.instruction import Draft, instruction
from engines.prompting.local_models import LOCAL_MODELS
from engines.prompting.reply import prompt_of
from engines.qwen.keys import QWEN, QWEN_TIED
from engines.qwen.pictures import patches
from engines.qwen.writing import pictures_then_text, write
from engines.types import Context

if TYPE_CHECKING:
    from engines.runtime.session import Session

MAX_TOKENS = 400
# About 500 tokens for a picture: enough to see what it shows, and four of them still leave room.
MAX_PIXELS = 500 * 28 * 28


def answer(question: Ask, session: Session) -> Generator[Words | Answer, None, None]:
    """The refiners "qwen-3b" and "qwen-7b" of engines/prompting/tasks.py.

    Raises:
        MissingWeights, IncompatibleCheckpoint, OutOfMemory: the model cannot be used here.
        RefinerError: it wrote nothing that can be used.
        MediaError: a picture cannot be read.
    """
    if in_small_world(question):
        yield from rules.answer(question)
        return
    model = LOCAL_MODELS[question.task]
    said = ""
    context = session.context(model.engine, model.spec)
    with closing(refine(draft_of(question), context, tied=model.tied)) as pieces:
        for piece in pieces:
            said += piece
            yield Words(text=piece)
    yield Answer(text=prompt_of(said), by=model.spec.title)


def refine(draft: Draft, context: Context, *, tied: bool = False) -> Generator[str, None, None]:
    """What the model answers to a draft, piece by piece; closing the generator ends it after the next word."""
    network = networks(context, {"mllm": QWEN_TIED if tied else QWEN})["mllm"]
    tokenizer = load_tokenizer(tokenizer_file(context, "mllm_tokenizer"))
    images = [open_picture(path, as_published=False) for path in draft.pictures]
    seen = patches(images, max_pixels=MAX_PIXELS) if images else None
    question = pictures_then_text(draft.prompt, seen.tokens if seen else [], system=instruction(draft))
    tokens = len(tokenizer.encode(question, add_special_tokens=False).ids) + MAX_TOKENS

    def working(itemsize: int) -> int:
        patches = len(seen.values) if seen else 0
        return activations.chat(network.config, tokens=tokens, patches=patches, itemsize=itemsize)

    component, room = network.planned(context, working)
    with context.use(component, working_bytes=room) as module:
        pieces = write(module, tokenizer, question, seen, max_tokens=MAX_TOKENS)
        with closing(pieces):
            yield from pieces
