"""The estimate before a clip is made is the run's own plan: the same networks, the same bytes, and README's table."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engines.loading.networks import find_network
from engines.loading.store import ASSETS, Store
from engines.memory import estimating, outlines
from engines.memory.estimating import Machine
from engines.memory.planning import Abilities
from engines.memory.precision import FLOAT32
from engines.memory.residency import ComponentCache
from engines.registry import SPECS
from engines.runtime.runner import run
from engines.runtime.session import Session
from engines.types import Component
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE
from studio.estimating import request_of
from tests.hardware_table import card, rows, shared
from tests.manifests.outlines import described, kind
from tests.manifests.run import ARCHITECTURES

README = Path(__file__).parents[2] / "README.md"
SMALL = {"prompt": "A red star moves right, sky background.", "steps": 1, "frames": 5, "seed": 3}
CPU = Machine(Abilities("cpu", "bfloat16"), 2**50)


KNOWN = json.loads(outlines.FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("manifest", sorted(set(KNOWN["files"].values())))
def test_what_is_known_of_published_networks_is_what_their_key_lists_say(manifest: str) -> None:
    assert KNOWN["networks"][manifest] == described(manifest)


def test_every_published_file_of_a_network_is_known() -> None:
    assert KNOWN["kinds"] == {one.class_name: kind(one) for one in ARCHITECTURES}
    for spec in SPECS.values():
        for model in spec.models:
            named = {weights.role for weights in model.weights if "tokenizer" not in weights.role}
            found = set(outlines.outlines(model, assets=ASSETS))
            assert named == found, f"{spec.name}/{model.name}"


def test_a_built_in_file_says_in_its_header_what_opening_it_does() -> None:
    model = SPECS["phantom-wan"].model("starter")
    found = outlines.outlines(model, assets=ASSETS)
    for role, architecture in (("transformer", TRANSFORMER), ("vae", VAE), ("text_encoder", TEXT_ENCODER)):
        (weights,) = [weights for weights in model.weights if weights.role == role]
        network = find_network(role, (ASSETS / weights.files[0],), architecture)
        kept = replace(network.counted_in(FLOAT32), buffer_bytes=0)  # which no header tells
        assert found[role].counted == kept and found[role].config["num_layers" if role != "vae" else "z_dim"]


@pytest.mark.parametrize(
    ("engine", "values"),
    [
        ("phantom-wan", {"width": 64, "height": 48, "references": 1}),
        ("phantom-wan", {"width": 64, "height": 48, "references": 1, "image_guidance": 1.0, "text_guidance": 1.0}),
        ("flashi2v", {"width": 64, "height": 48, "picture": 1, "guidance": 1.0}),
        ("flashi2v", {"width": 64, "height": 48, "picture": 1, "guidance": 5.0}),
        ("pyramid-flow", {"width": 128, "height": 64, "frames": 9, "later_steps": 1}),
    ],
)
def test_what_is_reckoned_is_what_the_run_books(
    engine: str, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 48), "red").save(picture)
    given: dict[str, Any] = {"references": [{"path": picture}], "picture": {"path": picture}}
    spec = SPECS[engine]
    request = request_of(spec, SMALL | {name: given.get(name, value) for name, value in values.items()})
    assert request is not None
    booked: dict[str, int] = Counter()
    real = ComponentCache.use

    @contextmanager
    def use(self: ComponentCache, component: Component, *, working_bytes: int = 0) -> Any:
        if component.role:  # not what is kept of texts where there is memory to spare
            booked[component.role] = max(booked[component.role], component.size_bytes + working_bytes)
        with real(self, component, working_bytes=working_bytes) as module:
            yield module

    monkeypatch.setattr(ComponentCache, "use", use)
    session = Session("cpu", store=Store())
    model = spec.model(request.model)
    list(run(spec, request, session.context(spec.name, model), output_dir=tmp_path / "out", job_id="a"))
    made = estimating.of_request(spec, request, outlines.outlines(model, assets=ASSETS), CPU)
    reckoned: dict[str, int] = Counter()
    for step in made.steps:
        for one in step.networks:
            reckoned[one.role] = max(reckoned[one.role], one.plan.needs_bytes)
    assert reckoned.keys() == booked.keys() and made.verdict == "fits"
    for role, size in booked.items():
        assert size <= 1.02 * reckoned[role] and reckoned[role] <= 1.02 * size, role


@pytest.mark.parametrize("seed", range(20))
def test_no_estimate_exceeds_what_is_allowed_and_a_smaller_clip_takes_no_more(seed: int) -> None:
    draw = random.Random(seed)
    spec = draw.choice([*SPECS.values()])
    model = draw.choice(spec.models)
    known = outlines.outlines(model, assets=ASSETS)
    size = draw.choice(model.geometry.sizes)
    frames = draw.choice(model.geometry.lengths)
    request = request_of(spec, {"model": model.name, "width": size[0], "height": size[1], "frames": frames})
    assert request is not None
    for machine in (card(draw.choice((6, 8, 12, 24, 48))), Machine(CPU.able, draw.choice((4, 12, 30)) * 10**9)):
        made = estimating.of_request(spec, request, known, machine)
        assert made.verdict != "unknown"
        if made.verdict != "refused":
            assert made.device_bytes <= machine.allowed_bytes
            assert all(step.device_bytes <= machine.allowed_bytes for step in made.steps)
            continue
        changes = estimating.smaller(spec, request, known, machine, fits=lambda one: one.verdict != "refused")
        if changes is not None:
            less = request.model_copy(update=changes)
            assert less.width * less.height * less.frames < request.width * request.height * request.frames
            assert estimating.of_request(spec, less, known, machine).verdict != "refused"


def test_the_1_3b_fits_where_the_read_me_says_so_and_not_below() -> None:
    spec = SPECS["phantom-wan"]
    request = request_of(spec, {"model": "1.3B"})
    assert request is not None
    known = outlines.outlines(spec.model("1.3B"), assets=ASSETS)
    eight = estimating.of_request(spec, request, known, card(8))
    decoding = eight.steps[-1].networks[0]
    assert eight.verdict == "slower" and decoding.plan.way.form == "float32", "decoded as exactly as it was published"
    assert estimating.of_request(spec, request, known, card(24)).verdict == "fits"


def test_a_network_that_no_card_holds_whole_lies_on_as_many_as_it_takes() -> None:
    spec = SPECS["phantom-wan"]
    request = request_of(spec, {"model": "14B"})
    assert request is not None
    known = outlines.outlines(spec.model("14B"), assets=ASSETS)

    def holders(gib: int) -> int:
        return estimating.holders(spec, request, known, card(gib), most=8)

    assert [holders(gib) for gib in (48, 24, 16)] == [1, 2, 3]
    two = estimating.of_request(spec, request, known, replace(card(24), devices=2))
    modes = {one.role: one.plan.mode for step in two.steps for one in step.networks}
    assert modes == {"text_encoder": "split", "vae": "resident", "transformer": "split"}
    assert two.verdict == "fits" and two.device_bytes <= two.allowed_bytes


def test_the_table_in_the_read_me_is_the_planners() -> None:
    text = README.read_text(encoding="utf-8")
    missing = [row for row in (*rows(), *shared()) if row not in text]
    assert missing == [], "python -m tests.hardware_table"


def test_the_read_me_and_the_models_name_the_same_cards() -> None:
    """The card that a model wants is the smallest on which its default clip can be made."""
    cells = dict(re.findall(r"^\| `([\w./-]+)`, \S+ \| (.*) \|$", "\n".join(rows()), re.M))
    for name, row in cells.items():
        engine, model = name.split("/")
        made = dict(zip((8, 12, 16, 24, 48, 80), row.split(" | "), strict=False))
        wanted = SPECS[engine].model(model).device_bytes / 2**30
        assert wanted == min(gib for gib, word in made.items() if word != "–"), name
