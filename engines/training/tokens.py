"""The starter tokenizer: a byte-level BPE in which the world's words are single tokens and anything else falls back
to bytes, so unknown words never break a prompt."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .world import WorldConfig, caption_of, words
from .world.captions import article

PAD, END = "<pad>", "</s>"


def _vocabulary_text() -> list[str]:
    """Every word of the grammar often enough to become one token."""
    groups = (
        words.COLOURS, words.SHAPES, words.MOTIONS, words.BACKGROUNDS, words.FLOORS, words.PATTERNS, words.CAMERA,
        words.THINGS, *words.SHAPE_SYNONYMS.values(), *words.MOTION_SYNONYMS.values(),
    )  # fmt: skip
    return [f"{word} {article(word)}" for group in groups for word in group] * 50


def train_tokenizer(*, vocabulary: int, captions: int = 6_000, seed: int = 0) -> PreTrainedTokenizerFast:
    """Train on captions of the world; `vocabulary` counts the 256 bytes and both special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=8,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    shares = (0.4, 0.3, 0.25, 0.05)
    config = WorldConfig(subject_shares=shares, two_subjects=0.3, photo_background=0.2, paraphrase=0.6, references=True)
    corpus = _vocabulary_text() + [caption_of((seed, i), config) for i in range(captions)]
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=512, padding_side="right"
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read a tokenizer folder (tokenizer.json and its config)."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder))
