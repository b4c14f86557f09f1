"""The golden cases this project carries, one test each."""

from pathlib import Path

import pytest

from tests.golden import run

CASES = Path(__file__).parent / "golden" / "cases"


@pytest.mark.parametrize("folder", run.find(CASES), ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_case(folder: Path) -> None:
    verdict = run.run(folder)
    assert verdict.passed, f"{verdict.message}; max error {verdict.max_error}"


def test_a_broken_case_is_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text("{}")
    (verdict,) = [verdict for _, verdict in run.run_all(tmp_path)]
    assert not verdict.passed
    assert "expected.safetensors" in verdict.message or "FileNotFoundError" in verdict.message


def test_an_unknown_engine_has_no_adapter(tmp_path: Path) -> None:
    source = CASES / "phantom_wan" / "text_clean"
    text = (source / "case.json").read_text(encoding="utf-8").replace('"phantom_wan"', '"of_tomorrow"')
    (tmp_path / "case.json").write_text(text, encoding="utf-8")
    (tmp_path / "expected.safetensors").write_bytes((source / "expected.safetensors").read_bytes())
    assert run.run(tmp_path).message == "no adapter"


def test_a_wrong_number_fails() -> None:
    case = run.Case.read(CASES / "phantom_wan" / "text_clean")
    outputs = {name: tensor + (name == "a") for name, tensor in case.expected.items()}
    assert not run.compare(case, outputs).passed
