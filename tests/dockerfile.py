"""Runs the steps of the Dockerfile in a clean folder, where there is no Docker, and asks the page whether it answers.

python -m tests.dockerfile [--arg NAME=VALUE ...] [--python PYTHON]

The image is a temporary folder: WORKDIR, COPY (less what .dockerignore names), ENV, ARG and RUN work in it as in a
container, pip in a virtual environment of its own, and CMD serves the page. With --python that interpreter is used
as it is and pip is not run. USER and chown are left out: they want a root of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 180
LEFT_OUT = ("FROM", "USER", "VOLUME", "EXPOSE")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Instruction and words of every line; a backslash goes on with the next."""
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", plain).splitlines():
        if line.strip():
            name, _, words = line.strip().partition(" ")
            yield name.upper(), words.strip()


def ignored(root: Path) -> list[str]:
    """The patterns of .dockerignore."""
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


class Image:
    """A folder that stands for an image; paths from its root are found below it."""

    def __init__(self, folder: Path, python: str, given: dict[str, str]) -> None:
        self.folder, self.given, self.home = folder, given, folder
        self.runs_pip = not python
        if self.runs_pip:
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        found = folder / "venv" / "bin" if self.runs_pip else Path(python).parent
        self.env = {**os.environ, "PATH": f"{found}{os.pathsep}{os.environ['PATH']}"}
        self.command: list[str] = []

    def inside(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.folder / path.lstrip("/") if path.startswith("/") else self.home / path

    def take(self, name: str, words: str) -> None:
        """Follow one instruction."""
        sys.stdout.write(f"{name} {words}\n")
        sys.stdout.flush()
        match name:
            case "ARG":
                key, _, value = words.partition("=")
                self.env[key] = self.given.get(key, value)
            case "ENV":
                key, _, value = words.partition("=")
                self.env[key] = str(self.inside(value)) if value.startswith("/") else value
            case "WORKDIR":
                self.home = self.inside(words)
                self.home.mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(words.split())
            case "RUN":
                self._run(words)
            case "CMD":
                self.command = json.loads(words)
            case _ if name not in LEFT_OUT:
                raise SystemExit(f"{name} is not known here.")

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        patterns = [pattern.removeprefix("**/") for pattern in ignored(ROOT)]
        for source in sources:
            if source == ".":
                shutil.copytree(ROOT, self.inside(target), ignore=shutil.ignore_patterns(*patterns), dirs_exist_ok=True)
            else:
                shutil.copy2(ROOT / source, self.inside(target))

    def _run(self, words: str) -> None:
        steps = [step for step in words.split("&&") if self.runs_pip or not step.strip().startswith("pip ")]
        plain = [re.sub(r"(?<![\w.])/data\b", str(self.inside("/data")), step) for step in steps if "chown" not in step]
        for step in plain:
            subprocess.run(step, shell=True, check=True, cwd=self.home, env=self.env)


def main() -> int:
    """Build, serve, ask; returns 0 where the page answers as it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="as docker's --build-arg")
    parser.add_argument("--python", default="", help="use this interpreter as it is, and run no pip")
    options = parser.parse_args()
    given = dict(entry.split("=", 1) for entry in options.arg)
    with tempfile.TemporaryDirectory() as folder:
        image = Image(Path(folder), options.python, given)
        for name, words in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
            image.take(name, words)
        env = image.env | {"KINORA_PASSWORD": "checked here", "KINORA_PORT": "7899"}
        with subprocess.Popen(image.command, cwd=image.home, env=env) as served:
            try:
                status = answered("http://127.0.0.1:7899/config", served)
            finally:
                served.terminate()
    sys.stdout.write(f"The page answers {status} to somebody without the password; 401 is right.\n")
    return 0 if status == 401 else 1


def answered(url: str, served: subprocess.Popen[bytes]) -> int:
    """The status of the page once it answers, 0 where it does not."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and served.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
