"""kinora.toml: where it is found, what goes before it, what each setting may be, and what is said of a wrong one."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from engines.runtime import compiling
from studio.command_line import main
from studio.settings import SOURCES, BadSetting, Settings, check_compiling, from_environment
from tests.studio.server import ROOT

# Every setting that the file may have, as it is written there, and what it then is.
WRITTEN: dict[str, tuple[str, Any]] = {
    "outputs": ('"clips"', Path("clips")),
    "models": ('"../models"', Path("../models")),
    "more_models": ('["more", "../others"]', (Path("more"), Path("../others"))),
    "adapters": ('"styles"', Path("styles")),
    "devices": ('["cuda:0", "cuda:1"]', ("cuda:0", "cuda:1")),
    "split": ('"auto"', "auto"),
    "memory_gb": ('{ "cuda:0" = 8, "cuda:1" = 20.5 }', {"cuda:0": 8.0, "cuda:1": 20.5}),
    "precision": ('"half"', "half"),
    "attention": ('"torch"', "torch"),
    "compile": ('"auto"', "auto"),
    "certificate": ('"signer.pem"', Path("signer.pem")),
    "host": ('"localhost"', "localhost"),
    "port": ("7999", 7999),
    "root_path": ('"/kinora"', "/kinora"),
    "names": ('["studio.example", "other.example"]', ("studio.example", "other.example")),
    "refiner": ('"qwen-3b"', "qwen-3b"),
    "metadata": ("false", False),
    "preload": ("false", False),
    "language": ('"zh"', "zh"),
    "offline": ("true", True),
    "cluster": ('"10.0.0.5:6379"', "10.0.0.5:6379"),
    "public": ("true", True),
}
ALLOWED = [source.setting for source in SOURCES if source.takes]


@pytest.fixture(autouse=True)
def folder(nothing_set: Path) -> Path:
    """The working folder."""
    return nothing_set


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_declared_setting_can_be_written_in_the_file(folder: Path) -> None:
    assert set(WRITTEN) == set(ALLOWED)
    write(folder / "kinora.toml", "".join(f"{name} = {text}\n" for name, (text, _) in WRITTEN.items()))
    settings = from_environment()
    for name, (_, value) in WRITTEN.items():
        if isinstance(value, tuple) and isinstance(value[0], Path):
            value = tuple(Path(os.path.normpath(folder / one)) for one in value)
        expected = Path(os.path.normpath(folder / value)) if isinstance(value, Path) else value
        assert getattr(settings, name) == expected, name
        assert expected != getattr(Settings(), name), name
    assert settings.config == folder / "kinora.toml"


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert from_environment().port == Settings.port
    write(folder / "kinora.toml", 'port = 1111\nrefiner = "qwen-3b"\n')
    assert from_environment().port == 1111
    monkeypatch.setenv("GRADIO_SERVER_PORT", "2222")
    assert from_environment().port == 2222
    monkeypatch.setenv("KINORA_PORT", "3333")
    assert from_environment().port == 3333
    assert from_environment(port="4444").port == 4444
    assert from_environment(port="4444").refiner == "qwen-3b"


def test_a_file_that_is_named_goes_before_the_one_in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "kinora.toml", "port = 1111")
    write(folder / "variable.toml", "port = 2222")
    write(folder / "flag.toml", "port = 3333")
    monkeypatch.setenv("KINORA_CONFIG", "variable.toml")
    assert from_environment().port == 2222
    assert from_environment(config="flag.toml").port == 3333


def test_folders_in_the_file_are_named_from_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder.parent / "there" / "mine.toml", 'outputs = "clips"\nmodels = "~/models"\nadapters = "/styles"')
    monkeypatch.setenv("HOME", str(folder))
    settings = from_environment(config="../there/mine.toml")
    assert settings.outputs == folder.parent / "there" / "clips"
    assert (settings.models, settings.adapters) == (folder / "models", Path("/styles"))


def test_what_is_empty_says_nothing(folder: Path) -> None:
    expected = from_environment()
    write(folder / "kinora.toml", '\ufeffoutputs = ""\ndevices = []\nmemory_gb = {}\nhost = "  "')
    found = from_environment()
    assert found.origins == {"config": "the working folder"}
    assert vars(found) == vars(expected) | {"config": folder / "kinora.toml", "origins": found.origins}


BAD = {
    'port = "7860"': 'port in kinora.toml must be a whole number; you gave "7860".',
    "port = 70000": "port in kinora.toml must be a whole number from 1 to 65535; you gave 70,000.",
    "port = true": "port in kinora.toml must be a whole number; you gave true.",
    f"port = 0x{'f' * 5000}": "port in kinora.toml must be a whole number from 1 to 65535; you gave about 10^6021.",
    "outputs = 5": "outputs in kinora.toml must be a text in quotes; you gave 5.",
    'preload = "yes"': 'preload in kinora.toml must be true or false; you gave "yes".',
    "offline = 1": "offline in kinora.toml must be true or false; you gave 1.",
    "memory_gb = 0": "memory_gb in kinora.toml must be a number of gigabytes above 0",
    "memory_gb = nan": "memory_gb in kinora.toml must be a number of gigabytes above 0",
    "memory_gb = false": "memory_gb in kinora.toml must be a number, a text in quotes or a table of numbers",
    "[memory_gb]\ngpu = 8": "memory_gb in kinora.toml must be a number of gigabytes above 0",
    '[memory_gb]\ncpu = "8"': "a table of numbers; you gave a table.",
    'devices = ["cpu", 1]': "devices in kinora.toml must be a text in quotes or a list of texts; you gave a list.",
    'devices = ["gpu"]': "devices in kinora.toml must be cpu, mps, cuda",
    'attention = "best"': "attention in kinora.toml must be auto,",
    'compile = "yes"': "compile in kinora.toml must be off, auto or on",
    "split = 2026-11-26": "split in kinora.toml must be a text in quotes; you gave a date.",
    'memory = "8"': 'There is no setting "memory", which stands in kinora.toml: did you mean "memory_gb"?',
    'root-path = "/x"': 'did you mean "root_path"?',
    "[studio]\nport = 1": 'There is no setting "studio", which stands in kinora.toml: choose outputs, models,',
    'password = "x"': "password cannot be set in kinora.toml: set KINORA_PASSWORD instead.",
    'config = "x"': "config cannot be set in kinora.toml: set KINORA_CONFIG instead.",
    "port = x": 'The settings file "kinora.toml" is no TOML: Invalid value (at line 1, column 8).',
    "port = 1\nport = 2": 'The settings file "kinora.toml" is no TOML: Cannot overwrite a value',
    f"port = {'9' * 5000}": 'The settings file "kinora.toml" is no TOML:',
    f"devices = {'[' * 100_000}": 'The settings file "kinora.toml" is no TOML: it is nested too deep.',
    'outputs = "a\\u0000b"': "cannot be the name of a file or folder: correct it.",
    'adapters = "a\\u0000b"': "cannot be the name of a file or folder: correct it.",
    'models = "a\\u0000b"': "cannot be the name of a file or folder: correct it.",
    'certificate = "a\\u0000b"': "cannot be the name of a file or folder: correct it.",
    'more_models = ["a\\u0000b"]': "cannot be the name of a file or folder: correct it.",
    "#" * 1_000_001: 'The settings file "kinora.toml" is too long: at most 1,000,000 bytes are read.',
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_wrong_file_is_one_sentence_that_names_the_key(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "kinora.toml", text)
    for words in (["settings"], ["serve"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert BAD[text] in said
        assert said.count("\n") == 1 and len(said) < 500 and str(folder) not in said


def test_a_file_that_cannot_be_read_is_one_sentence(folder: Path) -> None:
    for name in ("nowhere.toml", ".", "x" * 300):
        with pytest.raises(BadSetting, match=r"settings file .* cannot be read: .* Name another"):
            from_environment(config=name)
    (folder / "kinora.toml").write_bytes(b"refiner = '\xff'")
    with pytest.raises(BadSetting, match="is no text: write it in UTF-8"):
        from_environment()


def test_the_command_tells_every_setting_and_where_it_comes_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "kinora.toml", 'memory_gb = 8\ndevices = ["cpu"]\nhost = "0.0.0.0"')
    monkeypatch.setenv("KINORA_PASSWORD", "secret-word")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7999")
    assert main(["settings", "--refiner", "qwen-3b", "--devices", "cpu,cpu", "--json"]) == 0
    told = {row["setting"]: (row["value"], row["from"]) for row in json.loads(capsys.readouterr().out)}
    assert list(told) == [source.setting for source in SOURCES]
    assert told["refiner"] == ("qwen-3b", "--refiner")
    assert told["devices"] == ("cpu, cpu:1", "--devices")
    assert told["port"] == ("7999", "GRADIO_SERVER_PORT")
    assert told["password"] == ("set", "KINORA_PASSWORD")
    assert told["memory_gb"] == ("8", "kinora.toml")
    assert told["config"] == (str(folder / "kinora.toml"), "the working folder")
    assert told["preload"] == ("true", "default") and told["outputs"] == (str(folder / "outputs"), "default")
    monkeypatch.delenv("KINORA_PASSWORD")
    assert main(["settings"]) == 0
    plain = capsys.readouterr().out
    assert "secret-word" not in plain and len(plain.splitlines()) == len(SOURCES)
    assert re.search(r"^memory_gb +8 +kinora\.toml$", plain, re.M)
    assert re.search(r"^password +made for each run +default$", plain, re.M)


def test_a_shared_studio_queues_and_holds_less() -> None:
    shared, own = from_environment(public="1"), from_environment()
    assert (shared.queue_limit, shared.most_upload_bytes) == (10, 2 * 10**9)
    assert (own.queue_limit, own.most_upload_bytes) == (200, 20 * 10**9)


def test_the_example_of_the_read_me_is_a_file_that_can_be_used(folder: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    assert tomllib.loads(example)
    write(folder / "kinora.toml", example)
    assert from_environment().config == folder / "kinora.toml"


def test_compiling_that_is_always_wanted_and_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    check_compiling(Settings(compile="auto"))
    with pytest.raises(BadSetting, match=r"needs a C\+\+ compiler, and this machine has none"):
        check_compiling(Settings(compile="on"))
