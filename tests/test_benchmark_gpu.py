"""benchmarks.gpu: without a GPU all of it runs on tiny networks, both sides make the same, no row stops the rest."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu

ROWS = "eager,decoding,cached,offloaded,switch"


def test_every_row_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = gpu.main(["--tiny", "--device", "cpu", "--quick", "--rows", ROWS, "--out", str(tmp_path)])
    assert not [row for row in table.rows.values() if "failed" in row.note]
    assert len(table.rows) == 9
    compared = [row for row in table.rows.values() if row.theirs]
    assert len(compared) == 8 and all(row.ours > 0 and row.ratio > 0 for row in compared)
    eager, decoding = table.rows["a step, eager"], table.rows["decoding"]
    assert float(eager.note.split()[2].rstrip(",")) < 1e-5, "both denoise alike"
    assert "at most 0 of 255" in decoding.note
    assert eager.planned > 0
    written = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [row["what"] for row in written["rows"]] == [*table.rows]
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") == f"{table}\n"
    said = capsys.readouterr().out
    assert all(f"| {what} |" in said for what in table.rows)


def test_a_row_that_fails_says_why_and_the_next_begins(tmp_path: Path) -> None:
    table = gpu.main(
        ["--tiny", "--device", "cpu", "--rows", "eager,cached", "--memory-gb", "1", "--out", str(tmp_path)]
    )
    assert [*table.rows] == ["eager", "cached"]
    assert all(row.note.startswith("failed: OutOfMemory") and "Only 1" in row.note for row in table.rows.values())
    assert "failed: OutOfMemory" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_what_cannot_be_measured_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in ((["--device", "cpu"], "want a GPU"), (["--tiny", "--rows", "quick"], "no row quick")):
        with pytest.raises(SystemExit):
            gpu.main(arguments)
        assert sentence in capsys.readouterr().err
