"""The measures on the simulator's own clips (near perfect) and on shuffled captions (near chance)."""

import numpy as np
import pytest

from engines.evaluation import cases, scores
from engines.evaluation.figures import Figure, share, table, write
from engines.training.data import fit_on_canvas
from engines.training.world import make_clip, pictures


@pytest.fixture(scope="module")
def text_clips():
    return [make_clip((cases.TEXT_SEED, index), cases.TEXT_WORLD) for index in range(48)]


@pytest.fixture(scope="module")
def one_subject():
    return cases.cases(cases.ONE_SEED, 16, cases.ONE_WORLD)


def _rates(clips, captions):
    hits = [scores.text_hits(scores.look(a.frames), b) for a, b in zip(clips, captions, strict=True)]
    return {name: np.mean([hit[name] for hit in hits]) for name in hits[0]}


def test_simulator_clips_score_near_perfect(text_clips):
    assert all(rate >= 0.97 for rate in _rates(text_clips, text_clips).values())


def test_shuffled_captions_score_near_chance(text_clips):
    rates = _rates(text_clips, text_clips[1:] + text_clips[:1])
    assert rates["colour"] < 0.35
    assert rates["shape"] < 0.45
    assert rates["motion"] < 0.3
    assert rates["background"] < 0.45


def test_references_are_told_apart(one_subject):
    right = [scores.reference_hits(case.clip.frames, case)[0] for case in one_subject]
    others = one_subject[1:] + one_subject[:1]
    wrong = [scores.reference_hits(b.clip.frames, a)[0] for a, b in zip(one_subject, others, strict=True)]
    assert np.mean(right) >= 0.9
    assert np.mean(wrong) <= 0.5
    assert np.mean([scores.motion_right(case.clip.frames, case.clip) for case in one_subject]) >= 0.9


def test_two_subjects_are_told_apart():
    pairs = cases.cases(cases.TWO_SEED, 6, cases.TWO_WORLD)
    assert np.mean([scores.reference_hits(case.clip.frames, case) for case in pairs]) >= 0.9


def test_pasting_is_seen(one_subject):
    for case in one_subject[:6]:
        reference = fit_on_canvas(case.clip.references[0], width=96, height=64)
        assert not scores.pasted(case.clip.frames, reference)
    pastes = []
    for case in one_subject:
        reference = fit_on_canvas(case.clip.references[0], width=96, height=64)
        pastes.append(scores.pasted(np.repeat(reference[None], 9, 0), reference))
    assert np.mean(pastes) > 0.6


def test_evaluation_subjects_are_never_trained_on(one_subject):
    codes = set(pictures.emoji_codes(held_out=True))
    names = {pictures.emoji_name(code) for code in codes}
    for case in one_subject:
        subject = case.clip.tracks[0].subject
        assert subject.kind == "sprite" or not codes or subject.name in names


def test_empty_clips_do_not_break_a_measure(one_subject):
    blank = np.full((33, 64, 96, 3), 128, np.uint8)
    seen = scores.look(blank)
    assert seen.colour is None
    assert seen.shape is None
    assert seen.motion is None
    assert scores.reference_hits(blank, one_subject[0]) == [False]


def test_figures_say_whether_a_target_is_met(tmp_path):
    figures = [
        share("motion right", [True] * 9 + [False], target=80.0),
        Figure(name="time", value=12.0, unit="s", target=10.0, lower=True),
    ]
    assert [figure.met for figure in figures] == [True, False]
    assert "MISSED" in table(figures)
    write(tmp_path / "out" / "x.json", name="x", figures=figures, facts={"clips": 10})
    assert '"met": false' in (tmp_path / "out" / "x.json").read_text()
