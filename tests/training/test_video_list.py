"""The published filter rule by rule, LMDB without pickle, and clips read from real files."""

import json
from pathlib import Path

import av
import lmdb
import numpy as np
import pytest
import torch

from engines.training.video_clips import VideoDataset, decode_clip, training_caption
from engines.training.video_list import Bucket, Samples, filtered, main, read_lists, write_samples
from tests.engines import tiny_wan

GOOD = {"path": "a.mp4", "cap": "a fox", "resolution": {"height": 1080, "width": 1920}, "fps": 32, "num_frames": 200}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"cap": ["one", "two"]}, None),
        ({"cap": " "}, "no caption"),
        ({"cap": []}, "no caption"),
        ({"resolution": None}, "no resolution"),
        ({"resolution": {"height": 0, "width": 1920}}, "no resolution"),
        ({"resolution": {"height": 1920, "width": 1080}}, "aspect ratio"),
        ({"resolution": {"height": 700, "width": 1920}}, "aspect ratio"),
        ({"resolution": {"height": 960, "width": 960}}, "too few pixels"),  # 921,600 would do at 16:9.2 only
        ({"resolution": {"height": 1280, "width": 1280}}, None),
        ({"num_frames": None}, "no frame count"),
        ({"num_frames": 491}, "too long"),
        ({"num_frames": 490}, None),
        ({"fps": 12, "num_frames": 60}, "frame rate too low"),
        ({"fps": 15.95, "num_frames": 60}, None),
        ({"motion": 1.5}, "motion score"),
        ({"num_frames": 96}, "too short"),  # 48 frames at 16 fps
        ({"num_frames": 97}, None),
        ({"num_frames": 97, "cut": [10, 107]}, None),
    ],
)
def test_each_rule(changes: dict, reason: str | None) -> None:
    assert Bucket().refusal(GOOD | changes) == reason


def test_a_missing_frame_rate_is_24_and_frames_are_picked_from_the_cut() -> None:
    sample = {key: value for key, value in GOOD.items() if key != "fps"} | {"cut": [7, 100]}
    assert Bucket().indices(sample)[:4].tolist() == [7, 8, 10, 11]


def test_samples_fall_into_the_first_bucket_that_takes_them(tmp_path: Path) -> None:
    tall = Bucket(width=480, height=832, min_ratio=1.2, max_ratio=2.5)
    upright = GOOD | {"resolution": {"height": 1920, "width": 1080}}
    kept, left_out = filtered([GOOD, upright, GOOD | {"cap": ""}], (Bucket(), tall))
    assert [sample["bucket"] for sample in kept] == [0, 1] and left_out == {"no caption": 1}
    for name in ("a", "b"):
        assert write_samples(tmp_path / f"{name}.lmdb", [*kept, *kept]) == 4
        assert write_samples(tmp_path / f"{name}.lmdb", kept) == 2, "in place of those"
    both = Samples(tmp_path)
    assert len(both) == 4 and [both[index]["bucket"] for index in range(4)] == [0, 1, 0, 1]
    with pytest.raises(IndexError):
        both[4]
    both.close()
    with lmdb.open(str(tmp_path / "a.lmdb"), readonly=True) as store, store.begin() as transaction:
        assert json.loads(transaction.get(b"000000000001")) == kept[1]
    with pytest.raises(ValueError, match="holds none"):
        Samples(tmp_path / "c")


def test_lists_are_read_and_filtered_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps([GOOD, GOOD | {"cap": ""}]))
    (tmp_path / "lists.txt").write_text("videos,meta.json\n\n")
    assert main([str(tmp_path / "lists.txt"), "--out", str(tmp_path / "out.lmdb")]) == 0
    (sample,) = [Samples(tmp_path / "out.lmdb")[0]]
    assert sample["path"] == str(tmp_path / "videos" / "a.mp4")
    (tmp_path / "lists.txt").write_text("only a folder\n")
    with pytest.raises(ValueError, match="line 1"):
        list(read_lists(tmp_path / "lists.txt"))


def test_a_recipe_says_which_videos_it_can_use(tmp_path: Path) -> None:
    upright = GOOD | {"resolution": {"height": 1920, "width": 1080}, "fps": 24}
    (tmp_path / "meta.json").write_text(json.dumps([upright | {"num_frames": 120}, upright | {"num_frames": 121}]))
    (tmp_path / "lists.txt").write_text("videos,meta.json\n")
    words = [str(tmp_path / "lists.txt"), "--recipe", "phantom-physics", "--out"]
    assert main([*words, str(tmp_path / "a.lmdb")]) == 0
    kept = Samples(tmp_path / "a.lmdb")
    assert len(kept) == 1 and kept[0]["bucket"] == 1 and kept[0]["num_frames"] == 121
    kept.close()
    assert main([*words, str(tmp_path / "b.lmdb"), "--set", 'buckets=[{"frames": 9, "max_ratio": 2}]']) == 0
    kept = Samples(tmp_path / "b.lmdb")
    assert len(kept) == 0
    kept.close()


@pytest.mark.parametrize(
    ("lists", "meta", "words", "says"),
    [
        ("only a folder", "[]", [], "line 1"), ("videos,gone.json", "[]", [], '"gone.json" cannot be used'),
        ("videos,meta.json", "[", [], "meta.json is no JSON"), ("videos,meta.json", "{}", [], "no list of objects"),
        ("videos,meta.json", '[{"cap": "a"}]', [], "no list of objects"),
        ("videos,meta.json", "[]", ["--recipe", "nothing"], "no recipe"),
        ("videos,meta.json", "[]", ["--recipe", "vae"], "not trained on lists"),
        ("videos,meta.json", "[]", ["--set", "buckets=3"], "buckets cannot be"),
    ],
)  # fmt: skip
def test_a_bad_list_or_request_is_refused_in_one_sentence(
    lists: str, meta: str, words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lists.txt").write_text(lists)
    (tmp_path / "meta.json").write_text(meta)
    assert main([str(tmp_path / "lists.txt"), "--out", str(tmp_path / "out.lmdb"), *words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and str(tmp_path) not in said


def test_captions_are_cleaned_as_for_the_published_weights() -> None:
    text = "A Fox &amp; 一只 狐狸 <b>RUNS</b> https://a.example/x by @me [at] 10.0.0.1, id 1234567890 clip_01.mp4"
    assert training_caption(text) == "a fox & runs by at , id"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """60 frames at 8 fps, each as bright as its number."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


BUCKET = Bucket(width=32, height=32, frames=5, fps=4.0, min_area=100, max_lengths=20)


def test_a_clip_has_the_bucket_s_size_length_and_rate(film: Path) -> None:
    sample = {"path": str(film), "cap": "light", "fps": 8, "num_frames": 60}
    for seed in range(3):
        clip = decode_clip(sample, BUCKET, np.random.default_rng(seed))
        assert clip.shape == (5, 32, 32, 3)
        steps = np.diff(clip.mean((1, 2, 3)))
        assert np.allclose(steps, 8, atol=2)  # two source frames a step
    with pytest.raises(ValueError, match="another frame rate"):
        decode_clip(sample | {"fps": 12}, BUCKET, np.random.default_rng(0))
    with pytest.raises(ValueError, match="fewer frames"):
        decode_clip(sample | {"cut": [56, 60]}, BUCKET, np.random.default_rng(0))


def test_batches_are_the_same_for_the_same_step_and_broken_files_are_replaced(film: Path, tmp_path: Path) -> None:
    good = {"path": str(film), "cap": ["a red star", "blue circle"], "fps": 8, "num_frames": 60, "bucket": 0}
    write_samples(tmp_path / "s.lmdb", [good, good | {"path": str(tmp_path / "gone.mp4")}])
    tokenizer = tiny_wan.write_tokenizer(tmp_path / "tokenizer.json")
    dataset = VideoDataset(
        tmp_path / "s.lmdb", tokenizer, buckets=(BUCKET,), batch=2, steps=9, seed=1, text_len=8, drop_text=0.0
    )
    batch = dataset[3]
    assert batch["video"].shape == (2, 3, 5, 32, 32) and batch["video"].abs().max() <= 1
    assert batch["ids"].shape == batch["mask"].shape and batch["ids"].shape[1] <= 8
    other, again = dataset[4], dataset[3]
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["video"], other["video"])
    write_samples(tmp_path / "t.lmdb", [good | {"path": str(tmp_path / "gone.mp4")}])
    broken = VideoDataset(
        tmp_path / "t.lmdb", tokenizer, buckets=(BUCKET,), batch=1, steps=9, seed=1, text_len=8, drop_text=0.0
    )
    with pytest.raises(RuntimeError, match="in a row"):
        broken[0]
