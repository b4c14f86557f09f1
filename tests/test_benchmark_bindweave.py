"""benchmarks.bindweave: both ways make one clip, what was read is not read again, attention copies no context."""

from pathlib import Path

import pytest
import torch

from benchmarks import bindweave
from benchmarks.bindweave import LOADED, Size
from engines.bindweave.keys import BINDWEAVE
from engines.loading.checkpoints import load, open_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets") / "starter"
    folder.mkdir()
    bindweave.write_starter(folder)
    return folder


def test_one_job_makes_the_clip_of_the_three_stages_with_fewer_calls(folder: Path) -> None:
    rows = bindweave.compared(folder, Size(width=64, height=48, frames=5, steps=2))
    for name, ours, theirs in rows:
        assert abs(ours.clip.astype(int) - theirs.clip).max() <= 1, name
        assert ours.calls["transformer"] == theirs.calls["transformer"] == 4
        assert theirs.calls[LOADED] == 5 and theirs.calls["Qwen's eyes"] == theirs.calls["Qwen reads"] == 2
        assert theirs.calls["image encoder"] == 3, "the published code also looks at a main image"
    first, again, other = (ours.calls for _, ours, _ in rows)
    encoders = ("text encoder", "image encoder", "Qwen's eyes", "Qwen reads", "autoencoder, pieces in")
    assert [first[name] for name in encoders] == [2, 2, 1, 2, 4] and first[LOADED] == 5
    assert [again[name] for name in (*encoders, LOADED)] == [0] * 6, "a repeated prompt runs no encoder"
    assert [other[name] for name in (*encoders, LOADED)] == [1, 0, 0, 1, 0, 0], "another prompt is all that is read"
    assert len(bindweave.table(rows)) > 3 * len(bindweave.COUNTED)


def test_cross_attention_copies_no_context(folder: Path) -> None:
    file = folder / "bindweave.safetensors"
    network = load(open_checkpoint([file]), BINDWEAVE, dtype=torch.float32)
    largest, context = bindweave.copied_by_attention(network, 900)
    assert 0 <= largest < context / 10
    with bindweave.Copies() as copies:
        torch.cat([torch.zeros(1, 300, 256), torch.zeros(1, 600, 256)], dim=1)
    assert copies.largest == context, "a copy would be seen"
