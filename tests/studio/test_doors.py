"""The doors as people find them: any working directory, any name, any terminal, any environment, any folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from engines.registry import SPECS
from studio import serving
from studio.command_line import main
from studio.commands import asked
from studio.one_clip import Target
from studio.paths import absolute
from studio.settings import SOURCES, BadSetting, Settings, Source, from_environment, is_loopback
from tests.studio.server import ROOT

WORDS = ["generate", "phantom-wan", "--prompt", "slides", "--device", "cpu"]
QUICK = {"PYTHONPATH": str(ROOT), "KINORA_TEST_WORKER": "tests.studio.plain_worker"}


def run(*words: str, cwd: Path, module: str = "tests.studio.command", **env: str) -> subprocess.CompletedProcess[bytes]:
    """A real process of the command line, with a worker that makes empty clips."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KINORA_", "GRADIO_"))}
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=cwd, env=kept | QUICK | env, capture_output=True, timeout=120)


def names(folder: Path) -> list[bytes]:
    return sorted(os.fsencode(path.name) for path in folder.iterdir())


@pytest.fixture
def here(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is not the project's, with a picture in it."""
    folder = tmp_path / "here"
    folder.mkdir()
    picture.rename(folder / "star.png")
    monkeypatch.chdir(folder)
    return folder


def test_a_clip_from_another_working_directory_with_relative_paths_only(here: Path) -> None:
    before = names(ROOT)
    (here / "models").mkdir()
    done = run(
        *WORDS, "--ref", "star.png", "--out", "clip.mp4", "--models", "models", "--json", cwd=here,
        KINORA_OUTPUTS="mine", HF_HOME="hub", TMPDIR="models", GRADIO_TEMP_DIR="uploads",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["video"] == str(here / "clip.mp4")
    assert names(here) == [b"clip.json", b"clip.mp4", b"models", b"star.png"]
    assert names(ROOT) == before


def test_every_relative_path_is_whole_before_it_is_handed_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker in another folder is given, and what it inherits."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "GRADIO_TEMP_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "a/b")
    monkeypatch.setenv("KINORA_OUTPUTS", "outputs")
    monkeypatch.setenv("KINORA_MODELS", "../models")
    settings = from_environment()
    assert (settings.outputs, settings.models) == (here / "outputs", here.parent / "models")
    assert os.environ["HF_HOME"] == os.environ["GRADIO_TEMP_DIR"] == str(here / "a/b")
    (here / "w.safetensors").touch()
    override = asked.override(SPECS["phantom-wan"], "1.3B", "vae=w.safetensors")
    assert override.endswith(f"vae={here / 'w.safetensors'}")
    assert Target(Path("clip.mp4")).folder.is_absolute()
    assert Settings(outputs=Path("o")).outputs == here / "o"


def test_a_link_keeps_the_name_that_was_given(here: Path) -> None:
    (here / "612b8da1").touch()
    (here / "vae.pth").symlink_to(here / "612b8da1")
    assert asked.override(SPECS["phantom-wan"], "1.3B", "vae=vae.pth").endswith("vae.pth")


@pytest.mark.parametrize("name", ["~star.png", "~", "~nobody9", "~nobody9/x.png"])
def test_a_file_may_begin_with_a_tilde(name: str, here: Path) -> None:
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).touch()
    assert absolute(name) == here / name
    (here / name).unlink()
    if "nobody9" in name:
        assert absolute(name) == here / name  # no such user either: a name like any other


def test_a_tilde_is_home_where_it_is_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert absolute("~/x.png") == here / "x.png" and absolute("~") == here
    assert from_environment(outputs="~/clips").outputs == here / "clips"


@pytest.mark.parametrize(("flag", "said"), [("--port=many", b"many"), ("--prot=1", b"--prot"), ("photo.png", b"photo")])
def test_what_is_written_behind_app_py_is_heard(here: Path, flag: str, said: bytes) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "app.py"), flag], cwd=here, capture_output=True, timeout=120)
    assert done.returncode == 2 and said in done.stderr and b"Traceback" not in done.stderr
    assert names(here) == [b"star.png"]


LONG = "x" * 300
BAD = {
    "no such user": (["--out=~nobody9/x.mp4", "--ref=star.png"], 'no folder "~nobody9"'),
    "no such picture": (["--out=x.mp4", "--ref=~nobody9.png"], 'no picture "~nobody9.png"'),
    "a name too long for the clip": ([f"--out={LONG}.mp4", "--ref=star.png"], "another name"),
    "a folder too long": ([f"--out={LONG}/x.mp4", "--ref=star.png"], "another name"),
    "a picture too long": (["--out=x.mp4", f"--ref={LONG}.png"], "cannot be opened"),
    "a checkpoint too long": (["--out=x.mp4", "--ref=star.png", f"--weights=vae={LONG}"], "name too long"),
    "no device": (["--out=x.mp4", "--ref=star.png", "--device=gpu"], "--devices must be cpu, mps, cuda"),
    "another device": (["--out=x.mp4", "--ref=star.png", "--device=cuda:99"], 'no device "cuda:99" on this machine'),
    "a negative device": (["--out=x.mp4", "--ref=star.png", "--device=cuda:-1"], "--devices must be"),
    "memory nan": (["--out=x.mp4", "--ref=star.png", "--memory-gb=nan"], "--memory-gb must be a number"),
    "memory inf": (["--out=x.mp4", "--ref=star.png", "--memory-gb=inf"], "above 0"),
    "memory 0": (["--out=x.mp4", "--ref=star.png", "--memory-gb=0"], "above 0"),
    "memory -1": (["--out=x.mp4", "--ref=star.png", "--memory-gb=-1"], "above 0"),
    "memory in words": (["--out=x.mp4", "--ref=star.png", "--memory-gb=much"], 'you gave "much"'),
    "memory beyond numbers": (["--out=x.mp4", "--ref=star.png", "--memory-gb=1e308"], "at most 100,000"),
    "models a file": (["--out=x.mp4", "--ref=star.png", "--models=star.png"], '"star.png" is a file, not a folder'),
    "models nowhere": (["--out=x.mp4", "--ref=star.png", "--models=nowhere"], '"nowhere" is not there'),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_flag_is_one_sentence(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, sentence = BAD[name]
    assert main(["generate", "phantom-wan", "--prompt=x", *words]) == 2
    check(capsys.readouterr().err, sentence)
    assert names(here) == [b"star.png"]


def check(said: str, sentence: str) -> None:
    assert sentence in said
    assert said.count("\n") == 1 and said.endswith((".\n", "?\n")) and len(said) < 500
    for secret in ("Traceback", "Errno", str(ROOT), "/tmp"):
        assert secret not in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_need_not_know_the_letters(encoding: str, here: Path) -> None:
    done = run(*WORDS, "--ref=star.png", "--out=星.mp4", cwd=here, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\\u661f.mp4" in done.stdout.decode(encoding.partition(":")[0])
    assert names(here) == sorted([b"star.png", "星.mp4".encode(), "星.json".encode()])


def test_names_that_are_no_text_are_names(here: Path) -> None:
    """A file may be called anything but / and NUL; its name comes as a lone surrogate."""
    raw = os.fsdecode(b"\xff\xfe")
    (here / raw).mkdir()
    (here / "star.png").rename(here / raw / f"{raw}.png")
    done = run(*WORDS, f"--ref={raw}.png", f"--out={raw}.mp4", "--json", cwd=here / raw)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["video"] == str(here / raw / f"{raw}.mp4")
    assert names(here / raw) == [b"\xff\xfe.json", b"\xff\xfe.mp4", b"\xff\xfe.png"]


@pytest.mark.parametrize("words", [["models"], ["models", "--json"], ["--help"], ["generate", "--help"]])
def test_nobody_has_to_listen(words: list[str], here: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "studio", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=here, env=env, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_clip_is_made_though_nobody_listens(here: Path) -> None:
    command = f"{sys.executable} -m tests.studio.command {' '.join(WORDS)} --ref star.png --out"
    for number, where in enumerate(("| true", ">&- 2>&-")):
        line = f"set -o pipefail; {command} {number}.mp4 {where}"
        done = subprocess.run(["bash", "-c", line], cwd=here, env=os.environ | QUICK, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (here / f"{number}.mp4").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk at hand")
def test_an_answer_that_cannot_be_written_is_told(here: Path) -> None:
    line = f"{sys.executable} -m studio models >/dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=here, env=os.environ | QUICK, capture_output=True, timeout=60)
    assert done.returncode == 1
    check(done.stderr.decode(), "no space left")


def test_the_log_of_a_failure_stands_beside_the_clip_that_is_not(here: Path) -> None:
    (here / "clip.log").write_text("mine")
    for _ in range(2):
        done = run(*WORDS[:2], "--prompt", "breaks", "--ref=star.png", "--out=clip.mp4", cwd=here)
        assert done.returncode == 1
        assert b"clip-2.log" in done.stderr and done.stderr.count(b"\n") == 1
    assert names(here) == [b"clip-2.log", b"clip.log", b"star.png"]
    assert (here / "clip.log").read_text() == "mine"


# Every variable that is read, with what it cannot be; "" for those that take any text.
WRONG = {
    "KINORA_DEVICES": "gpu", "KINORA_MEMORY_GB": "nan", "KINORA_PORT": "http", "GRADIO_SERVER_PORT": "0",
    "KINORA_PUBLIC": "perhaps", "KINORA_ROOT_PATH": "a b", "GRADIO_ROOT_PATH": "ftp://x/y", "KINORA_NAMES": "a b,c",
    "KINORA_OUTPUTS": "", "KINORA_MODELS": "", "KINORA_HOST": "", "GRADIO_SERVER_NAME": "", "KINORA_PASSWORD": "",
    "SPACES_ZERO_GPU": "", "KINORA_OFFLINE": "perhaps", "HF_HUB_OFFLINE": "perhaps",
    "KINORA_CONFIG": "", "KINORA_SPLIT": "evenly", "KINORA_ATTENTION": "best", "KINORA_REFINER": "nobody",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for source in SOURCES for name in source.variables])
def test_a_variable_that_is_empty_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in WRONG:
        monkeypatch.delenv(other, raising=False)
    expected = from_environment()
    for empty in ("", "  "):
        monkeypatch.setenv(name, empty)
        assert from_environment() == expected
        assert name not in os.environ  # gradio and the hub read the environment too


@pytest.mark.parametrize("name", [name for name, value in WRONG.items() if value])
def test_a_bad_variable_is_named_in_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, WRONG[name])
    for words in (["models"], ["serve"]):
        assert main(words) == 2
        check(capsys.readouterr().err, f"{name} must be")


@pytest.mark.parametrize("port", ["-1", "0", "65536", "7.5", "seven", "9" * 400])
def test_a_port_is_a_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", f"--port={port}"]) == 2
    check(capsys.readouterr().err, "--port must be a whole number from 1 to 65535")


def test_gradio_s_own_empty_variables_stop_nothing(here: Path) -> None:
    empty = dict.fromkeys(("GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME", "GRADIO_NUM_PORTS", "GRADIO_NUM_WORKERS"), "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", f"--port={port}", cwd=here, module="studio", **empty)
    assert done.returncode == 2
    check(done.stderr.decode(), f"Port {port} is in use")
    assert names(here) == [b"star.png"], "the outputs folder was made for a studio that never began"


SERVE: dict[str, tuple[list[str], str]] = {
    "outputs a file": (["--outputs=star.png"], "star.png"),
    "outputs below a file": (["--outputs=star.png/clips"], "clips"),
    "outputs not writable": (["--outputs=/proc/clips"], "folder"),
    "outputs too long": ([f"--outputs={LONG}"], "Choose another"),
    "a job list of another program": (["--outputs=damaged"], "studio.sqlite3"),
    "no address": (["--host=nowhere..example"], "no address"),
    "another machine's address": (["--host=192.0.2.1"], "no address of this machine"),
    "no device": (["--device=tpu"], "--devices must be"),
    "a device that is not there": (["--device=cuda:99"], 'no device "cuda:99"'),
    "models a file": (["--models=star.png"], "is a file"),
    "a root path": (["--root-path=not a path"], "--root-path must be"),
}


def test_serve_answers_every_fault_in_one_sentence(here: Path) -> None:
    (here / "damaged").mkdir()
    (here / "damaged" / "studio.sqlite3").write_text("I am no job list, but long enough to be taken for one." * 99)
    driver = f"""
import contextlib, io, json, sys
from studio.command_line import main
for words, env in json.load(sys.stdin):
    import os
    os.environ.pop("KINORA_PASSWORD", None)
    os.environ.update(env)
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main(["serve", "--port={free_port()}", *words])
    print(json.dumps([code, err.getvalue()]))
"""
    calls = [(words, {"KINORA_PASSWORD": "x"}) for words, _ in SERVE.values()]
    done = subprocess.run(
        [sys.executable, "-c", driver], input=json.dumps(calls).encode(), cwd=here, env=os.environ | QUICK,
        capture_output=True, timeout=120,
    )  # fmt: skip
    answers: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(SERVE), done.stderr.decode()
    for (name, (_, sentence)), (code, said) in zip(SERVE.items(), answers, strict=True):
        assert code == 2, (name, said)
        check(said, sentence)
    assert b"Traceback" not in done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8", "LOCALHOST."])
def test_addresses_of_this_machine_need_no_password(host: str) -> None:
    assert is_loopback(host) and Settings(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "studio.example", "localhost.example"])
def test_other_addresses_need_one(host: str) -> None:
    with pytest.raises(BadSetting, match="needs a password"):
        Settings(host=host)
    assert Settings(host=host, password="x").auth == ("kinora", "x")


def test_a_password_is_made_where_other_machines_are_let_in_and_nobody_chose_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("KINORA_PASSWORD", "KINORA_HOST", "KINORA_PUBLIC", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    made = [from_environment(host="0.0.0.0") for _ in range(2)]
    assert all(settings.password_made and len(settings.password) >= 12 for settings in made)
    assert made[0].password != made[1].password
    assert made[0].password not in repr(made[0])
    monkeypatch.setenv("KINORA_PASSWORD", "mine")
    chosen = from_environment(host="0.0.0.0")
    assert (chosen.password, chosen.password_made) == ("mine", False)
    assert from_environment().auth is not None  # a password also counts where only this machine is let in
    monkeypatch.delenv("KINORA_PASSWORD")
    assert from_environment(host="localhost").auth is None


def test_the_password_that_was_made_is_told_and_opens_the_page(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-m", "studio", "serve", "--host", "0.0.0.0", "--port", str(port), "--device", "cpu"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KINORA_", "GRADIO_"))}
    env = kept | {"KINORA_OUTPUTS": str(tmp_path / "outputs"), "KINORA_PRELOAD": "0"}
    with subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            told = next(line for line in served.stdout if line.startswith("Log in as"))
            user, password = told.split()[3], told.split()[5].rstrip(",")
            for given, status in ((password, True), ("wrong", False)):
                body = f"username={user}&password={given}".encode()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/login", body, timeout=30) as answer:
                        assert status and answer.status == 200
                except urllib.error.HTTPError as error:
                    assert not status and error.code == 400
        finally:
            served.terminate()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "http://127.0.0.1:7860"),
        ({"host": "::1", "port": 80}, "http://[::1]:80"),
        ({"host": "0.0.0.0", "password": "x"}, "http://127.0.0.1:7860"),
        ({"root_path": "https://studio.example/kinora"}, "https://studio.example/kinora"),
    ],
)
def test_the_address_that_is_told_can_be_opened(given: dict[str, Any], told: str) -> None:
    assert serving.address(Settings(**given)) == told


def test_an_unbound_terminal_ends_the_command(here: Path) -> None:
    """A terminal that is closed says SIGHUP: nothing is left behind."""
    command = [sys.executable, "-m", "tests.studio.command", *WORDS[:2], "--prompt", "goes on steps=600 sleep=0.1"]
    process = subprocess.Popen(
        [*command, "--ref=star.png", "--out=clip.mp4"], cwd=here, env=os.environ | QUICK, stderr=subprocess.DEVNULL
    )
    while not list(here.glob(".kinora-*/worker.log")):
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 130
    assert names(here) == [b"star.png"]


@pytest.mark.parametrize("source", [source for source in SOURCES if source.flag], ids=lambda source: source.setting)
def test_serve_takes_every_flag(source: Source, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that is declared and told in the read-me, and that no command takes, is a promise broken."""
    given: list[Settings] = []
    monkeypatch.setattr(serving, "run", given.append)
    texts = {"port": "7999", "memory_gb": "3", "devices": "cpu", "refiner": "qwen-3b", "root_path": "/kinora"}
    (here / "mine.toml").touch()
    texts |= {"attention": "torch", "compile": "auto", "split": "guidance", "config": "mine.toml"}
    texts |= {"precision": "float32", "metadata": "0", "language": "en", "cluster": "127.0.0.1:6379"}
    text = texts.get(source.setting, "elsewhere.localhost")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # which --offline sets
    assert main(["serve", source.flag, *([text] if source.metavar else [])]) == 0
    assert getattr(given[0], source.setting) != getattr(Settings(), source.setting)


def test_the_read_me_names_every_flag_and_variable() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for source in SOURCES:
        for name in (source.flag, *source.variables):
            assert f"`{name}" in text or name in ("", "SPACES_ZERO_GPU"), name
