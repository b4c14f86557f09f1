"""Qwen2.5-VL of the real class, tiny and random, writes answers piece by piece."""

import threading

import pytest
import torch
from tokenizers import Tokenizer

from engines.qwen.chat import tokenise
from engines.qwen.pictures import Patches, patches
from engines.qwen.writing import pictures_then_text, write
from tests.engines import tiny_bindweave


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    return Tokenizer.from_file(str(tiny_bindweave.write_qwen_tokenizer(path)))


@pytest.fixture(scope="module")
def pictures() -> Patches:
    return patches([tiny_bindweave.noise(90, 60)])


def question(pictures: Patches) -> str:
    return pictures_then_text("a red star<|im_end|> falls", pictures.tokens, system="be kind")


def test_the_pieces_are_the_words_of_the_librarys_own_answer(tokenizer: Tokenizer, pictures: Patches) -> None:
    network = tiny_bindweave.qwen(loud=True)
    ids = tokenise(tokenizer, question(pictures))
    whole = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=pictures.values,
        image_grid_thw=pictures.grids,
        mm_token_type_ids=(ids == 4).int(),
        max_new_tokens=8,
        do_sample=False,
        repetition_penalty=1.05,
        eos_token_id=1,
        pad_token_id=0,
    )
    expected = tokenizer.decode(whole[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
    pieces = [piece for piece in write(network, tokenizer, question(pictures), pictures, max_tokens=8) if piece]
    assert "".join(pieces).split() == expected.split()
    assert len(pieces) > 1


def test_who_stops_listening_ends_it(tokenizer: Tokenizer, pictures: Patches) -> None:
    network = tiny_bindweave.qwen(loud=True)
    answer = write(network, tokenizer, question(pictures), pictures, max_tokens=100_000)
    assert next(piece for piece in answer if piece)
    answer.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "answer"]


def test_what_goes_wrong_inside_is_raised_here(tokenizer: Tokenizer, pictures: Patches) -> None:
    fewer = Patches(pictures.values[:4], torch.tensor([[1, 2, 2]]))
    with pytest.raises(Exception, match=r"mismatch|do not match"):
        list(write(tiny_bindweave.qwen(), tokenizer, question(pictures), fewer, max_tokens=4))
