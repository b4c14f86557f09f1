"""House rules that are cheap to check: sizes, docstrings, no prints, nothing of one machine, commands that agree."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.tree import drawn_modules

ROOT = Path(__file__).parents[1]
MOST_LINES = 500
LIBRARY = ("engines", "studio")
TEXTS = {".py", ".md", ".txt", ".toml", ".css", ".js", ".html", ".svg", ""}
# Where the command line talks to people; everything else logs.
PRINTS = {"studio/command_line.py", "studio/__main__.py"}

# Folders of one person's or one machine's, in any text.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users|opt|mnt|srv)/\w")
# Hosts that a text may name: our own page, projects and standards. Not: anyone's package mirror.
HOSTS = {
    "127.0.0.1", "localhost", "huggingface.co", "github.com", "arxiv.org", "pytorch.org", "git-lfs.github.com",
    "git-lfs", "docs.pytest.org", "www.apache.org", "cv.iptc.org", "iptc.org", "www.w3.org", "ns.adobe.com", "purl.org",
}  # fmt: skip
HOST = re.compile(r"https?://(?:[^/\s@\"'`]*@)?([\w.-]*\w)")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def texts() -> list[Path]:
    folders = ("engines", "studio", "tests", "benchmarks", "docs", ".ci")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    found = [path for path in [*inside, *ROOT.glob("*"), ROOT / ".gitignore"] if path.is_file()]
    return sorted(path for path in found if path.suffix in TEXTS and not {"__pycache__", ".git"} & set(path.parts))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(*LIBRARY, "tests", "benchmarks"), ids=short)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", sources(*LIBRARY), ids=short)
def test_library_code_has_docstrings_and_does_not_print(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module says what it is for"
    public = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
    if short(path) not in PRINTS:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("path", texts(), ids=short)
def test_no_text_names_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert MACHINE_PATH.findall(text) == []
    assert {host for host in HOST.findall(text) if host not in HOSTS and not host.endswith(".example")} == set()


def test_readme_and_ci_use_the_same_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [line for block in re.findall(r"```bash\n(.*?)```", readme, re.S) for line in block.splitlines()]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    test = "pip install -r requirements.txt -r tests/requirements.txt && python -m pytest"
    assert test in blocks
    assert ci[-1].replace("pip install -q", "pip install") == test
    assert "pip install -r requirements.txt && python app.py" in blocks


def test_ci_checks_before_it_tests() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert ci.index("\n.ci/check\n") < ci.index("python -m pytest")
    check = (ROOT / ".ci" / "check").read_text(encoding="utf-8")
    assert all(f"python -m {tool}" in check for tool in ("ruff check", "ruff format --check", "mypy"))


def test_no_test_starts_a_loop_in_the_thread_of_all_tests() -> None:
    starts = re.compile(r"\b(asyncio|anyio)\.(run|get_event_loop|new_event_loop)\b|run_until_complete")
    files = [path for path in sources("tests") if starts.search(path.read_text(encoding="utf-8"))]
    assert [short(path) for path in files if path != Path(__file__)] == ["tests/studio/awaited.py"]


def test_the_seams_are_type_checked_and_no_test_runs_for_ever() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tools["mypy"]["strict"] and len(tools["mypy"]["files"]) >= 9
    assert [file for file in tools["mypy"]["files"] if not (ROOT / file).is_file()] == []
    assert 0 < tools["pytest"]["ini_options"]["timeout"] <= 300


def test_readme_front_matter_is_what_a_space_needs() -> None:
    front = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    values = dict(line.split(": ", 1) for line in front.splitlines() if ": " in line)
    assert values["sdk"] == "gradio"
    assert (ROOT / values["app_file"]).is_file()
    assert len(values["short_description"]) <= 60
    floor = re.search(r"^gradio>=([\d.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M)[1]
    assert values["sdk_version"].startswith(floor)


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "tests/requirements.txt",
        "requirements-gpu.txt",
        "requirements-quantised.txt",
        "requirements-credentials.txt",
        "requirements-cluster.txt",
    ],
)
def test_requirements_have_a_floor_and_all_but_torch_a_cap(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    for line in (line for line in lines if line and not line.startswith(("#", "-r "))):
        assert re.fullmatch(r"torch>=[\d.]+|[\w-]+(\[\w+\])?>=[\d.]+,<\d+", line), line


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_every_file_that_a_document_links_to_is_there(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_architecture_names_every_module() -> None:
    drawn = set(drawn_modules())
    whole = ("engines/training/", "engines/evaluation/")  # rooms of their own, drawn as one
    there = {short(path) for folder in LIBRARY for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"}
    assert sorted(path for path in there - drawn if not path.startswith(whole)) == []
    assert sorted(path for path in drawn if not (ROOT / path).is_file()) == []
