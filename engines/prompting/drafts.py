"""The question for a better prompt as a draft for a language model. Imports no torch."""

from __future__ import annotations

from engines import registry
from engines.messages import Ask
from engines.prompting.instruction import Draft


def draft_of(question: Ask) -> Draft:
    """What is to be refined, with what the engine wants of a prompt; raises InvalidRequest for an unknown engine."""
    spec = registry.find(question.engine)
    return Draft(question.text, tuple(question.pictures), advice=spec.advice, words=spec.prompt_words)


def in_small_world(question: Ask) -> bool:
    """Whether the prompt is for a model with a vocabulary of its own, which a language model would only leave."""
    spec = registry.find(question.engine)
    return any(model.words for model in spec.models if model.name == question.model)
