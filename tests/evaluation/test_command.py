"""Bad requests to the measuring command are one sentence each, and nothing is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.evaluation.__main__ import main


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["variants", "none.json"], "no such file"), (["variants", "."], "is a directory"),
        (["variants", "odd.json"], "no evaluation of a variant"), (["variants", "cut.json"], "no evaluation"),
        (["variants", "list.json"], "no evaluation of a variant"), (["variants"], "name one of"),
        (["starter"], "name one of"), (["starter", "nobody"], "there is no starter nobody"),
        (["starter", "phantom-wan", "--transformer", "none.pth"], 'no "none.pth"'),
        (["starter", "phantom-wan", "--transformer", "cut.json"], "cut.json cannot be read"),
        (["starter", "phantom-wan", "--folder", "nowhere"], 'no "nowhere"'),
        (["starter", "phantom-wan", "--folder", "."], "is not in its assets folder"),
        (["starter", "phantom-wan", "--count", "-3"], "from 1 on"), (["physics", "--count", "-1"], "from 1 on"),
        (["physics", "--count", "few"], "from 1 on"), (["physics", "--out", "nowhere/x.json"], 'no "nowhere"'),
        (["physics", "--out", "."], "is a folder"), (["physics", "--out", "cut.json/x"], "is no folder"),
        (["opens2v", "."], "There is no clip"), (["opens2v", ".", "--image-encoder", "no.pth"], 'no "no.pth"'),
        (["physics-iq", "nowhere", "."], "There is no folder nowhere"), (["physics-iq", "."], "name the folder"),
    ],
)  # fmt: skip
def test_a_bad_command_is_refused_in_one_sentence(
    given: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("odd.json", '{"a": 1}'), ("cut.json", "["), ("list.json", "[1]")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    try:
        code = main(given)
    except SystemExit as stopped:  # argparse's own way
        code = stopped.code
    said = capsys.readouterr()
    assert code == 2 and says in said.err.splitlines()[-1] and str(tmp_path) not in said.err
    assert sorted(tmp_path.iterdir()) == before
