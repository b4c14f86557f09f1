"""The published checkpoints' keys fit the networks at full size, on the meta device."""

import json
from pathlib import Path

import pytest

from engines.errors import IncompatibleCheckpoint
from tests.manifests import run

FILES = Path(__file__).parent / "manifests" / "files"


@pytest.mark.parametrize("path", run.find(FILES), ids=lambda path: path.stem)
def test_every_key_is_used_and_every_parameter_filled(path: Path) -> None:
    verdict = run.run(path)
    assert verdict.passed, verdict.message


def test_a_key_too_many_or_too_few_fails() -> None:
    manifest = json.loads((FILES / "wan2.1-vae.json").read_text(encoding="utf-8"))
    extra = manifest | {"keys": manifest["keys"] | {"decoder.surprise.weight": [3]}}
    with pytest.raises(IncompatibleCheckpoint, match=r"1 unexpected \(decoder\.surprise\.weight\)"):
        run.check(extra)
    fewer = {key: shape for key, shape in manifest["keys"].items() if key != "decoder.head.2.bias"}
    with pytest.raises(IncompatibleCheckpoint, match=r"1 missing \(decoder\.conv_out\.bias\)"):
        run.check(manifest | {"keys": fewer})


def test_an_unknown_network_has_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps({"keys": {"layer.weight": [2, 2]}}), encoding="utf-8")
    assert [(name, verdict.message) for name, verdict in run.run_all(tmp_path)] == [("odd.json", "no adapter")]
