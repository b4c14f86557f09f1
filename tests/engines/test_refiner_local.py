"""Qwen2.5-VL as a refiner: a tiny random one of the real class, through the session that a worker has."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from engines.bindweave.components import BindWeaveModel
from engines.errors import MissingWeights, RefinerError
from engines.events import Answer, Words
from engines.loading.networks import find_network
from engines.loading.store import Store
from engines.memory.precision import FLOAT32
from engines.messages import Ask
from engines.prompting import local
from engines.prompting.drafts import draft_of
from engines.prompting.local_models import LOCAL_MODELS
from engines.prompting.tasks import CALIBRATE, REFINERS, TASKS, refining_task
from engines.qwen.keys import QWEN_TIED
from engines.registry import SPECS
from engines.runtime.session import Session
from tests.engines import tiny_bindweave, tiny_wan

SEVEN = refining_task("qwen-7b")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    """BindWeave's tiny files, with a multimodal model whose answers vary."""
    folder = tmp_path_factory.mktemp("refiner")
    written = tiny_bindweave.write_model(folder)
    tiny_wan.write(folder / "qwen" / "model.safetensors", tiny_bindweave.qwen(loud=True), tiny_bindweave.QWEN)
    return written


@pytest.fixture
def session(files: dict[str, tuple[Path, ...]]) -> Session:
    """A device whose BindWeave has the tiny files, under the published model's name."""
    return Session("cpu", store=Store(overrides={("bindweave", "14B", role): one[0] for role, one in files.items()}))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    tiny_bindweave.noise(200, 120, seed=0).save(path)
    return path


def ask(prompt: str = "a red star falls", *, model: str = "1.3B", **changes: Any) -> Ask:
    return Ask(id="q", task=SEVEN, text=prompt, engine="phantom-wan", model=model, **changes)


def test_it_writes_word_by_word_and_says_who_it_is(session: Session, picture: Path) -> None:
    *said, last = local.answer(ask(pictures=(picture,)), session)
    assert all(isinstance(piece, Words) for piece in said)
    assert isinstance(last, Answer) and last.by == "Qwen2.5-VL 7B"
    assert last.text.split() == "".join(piece.text for piece in said).split()
    again = [*local.answer(ask(pictures=(picture,)), session)]
    assert again[-1] == last, "the same question has the same answer"


def test_the_pictures_and_the_prompt_count(session: Session, picture: Path) -> None:
    answers = {
        "".join(piece.text for piece in local.answer(question, session) if isinstance(piece, Words))
        for question in (ask(), ask(pictures=(picture,)), ask("a blue circle moves left", pictures=(picture,)))
    }
    assert len(answers) == 3


def test_bindweave_and_the_refiner_have_one_network(session: Session, picture: Path) -> None:
    list(local.answer(ask(pictures=(picture,)), session))
    (held,) = session.cache.state()
    context = session.context("bindweave", SPECS["bindweave"].model("14B"))
    model = BindWeaveModel.find(context)
    model.states(context, "a red star", [Image.open(picture)])
    assert [key for key, *_ in session.cache.state()] == [held[0]], "loaded twice"


def test_who_stops_listening_leaves_nothing_in_use(session: Session, picture: Path) -> None:
    with closing(local.answer(ask(pictures=(picture,)), session)) as pieces:
        next(pieces)
    assert not any(entry.locks for entry in session.cache._entries.values())


def test_a_model_with_a_small_world_is_left_to_the_rules(session: Session) -> None:
    (answer,) = local.answer(ask(model="starter"), session)
    assert answer.by == "rules" and answer.text and answer.reasons
    assert session.cache.state() == []


def test_files_that_are_not_here_are_named() -> None:
    with pytest.raises(MissingWeights, match=r"so Qwen2\.5-VL 3B cannot run"):
        list(local.answer(ask().model_copy(update={"task": refining_task("qwen-3b")}), Session("cpu", store=Store())))


def test_an_answer_that_is_no_prompt_is_refused(files: dict[str, tuple[Path, ...]], tmp_path: Path) -> None:
    silent = tiny_bindweave.qwen()
    silent.lm_head.weight.zero_()  # every word is as likely as the first, which is a control token
    path = tiny_wan.write(tmp_path / "silent.safetensors", silent, tiny_bindweave.QWEN)
    overrides = {("bindweave", "14B", role): one[0] for role, one in (files | {"mllm": (path,)}).items()}
    with pytest.raises(RefinerError, match="nothing that could be a prompt"):
        list(local.answer(ask(), Session("cpu", store=Store(overrides=overrides))))


def test_the_smaller_model_writes_with_the_table_it_reads_with(tmp_path: Path) -> None:
    config = tiny_bindweave.QWEN | {"tie_word_embeddings": True}
    network = tiny_wan.seeded(lambda: Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config)))
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items() if name != "lm_head.weight"}
    path = tmp_path / "tied.safetensors"
    facts = json.dumps({"class": type(network).__name__, "config": config})
    save_file(tensors, path, metadata={"kinora": facts})
    loaded = find_network("mllm", (path,), QWEN_TIED).component(FLOAT32).build()
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    ids = torch.tensor([[0, 8, 9]])
    torch.testing.assert_close(loaded(input_ids=ids).logits, network(input_ids=ids).logits, rtol=1e-4, atol=1e-4)


def test_every_refiner_is_a_task_and_every_engine_advises() -> None:
    assert {refining_task(name) for name in REFINERS} == set(TASKS) - {CALIBRATE}
    assert set(LOCAL_MODELS) == {refining_task(name) for name, task in REFINERS.items() if task.needs_device}
    for spec in SPECS.values():
        draft = draft_of(ask().model_copy(update={"engine": spec.name}))
        assert draft.advice.endswith(".") and 40 <= draft.words <= 300, spec.name
    assert replace(draft, words=5).words == 5
