"""The texts of the sources as a catalogue names them: literals as they are, f-strings with their values as {0}, {1}.

python -m tests.studio.sentences tells what a catalogue lacks, and what of it is of nothing any more.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from studio.catalogue import FOLDER, bare, entries

ROOT = Path(__file__).parents[2]
# What never reaches the page: training and measuring, the command line's own words, what a language model is told, the
# words of the starters' small world, SQL.
_SILENT = (
    "engines/training/", "engines/evaluation/", "engines/prompting/instruction.py", "engines/prompting/small_world.py",
    "studio/commands/", "studio/__main__.py", "studio/speech.py", "studio/remote.py", "studio/one_clip.py",
    "studio/serving.py", "studio/batch.py", "studio/command_line.py", "studio/jobs/schema.py", "studio/jobs/shelf.py",
    "studio/page/api.py",
)  # fmt: skip
# Texts that look like sentences and are none of the page's: what is added to prompts, told to machines, or written into
# files.
_OTHERS = {
    "The camera stays still.", "Soft, even light.", "Smooth motion, sharp detail.", "You are a helpful assistant.",
    "Negative prompt:", "This line holds no settings of a worker.", "This is no command that the worker knows.",
    "{0}: a width of {1} cannot be shared by {2} heads.", "Step {0} of {1}.",
    "Settings of Kinora, shared by page and command line. A variable goes before them, and a flag before that.",
}  # fmt: skip
_SQL = re.compile(r"\b(WHERE|UPDATE \w+ SET|DELETE FROM|AND owner)\b")
_SENTENCE = re.compile(r"(?s)[\"A-Z{].*[a-z}\"].*[.!?:…]")
_SAY = re.compile(r'\bsay(?:Name)?\("((?:[^"\\]|\\.)*)"')


def modules() -> list[Path]:
    """Every module of both halves."""
    return [path for half in ("engines", "studio") for path in sorted((ROOT / half).rglob("*.py"))]


def spoken_modules() -> list[Path]:
    """Modules whose sentences may be read on the page."""
    return [path for path in modules() if not path.relative_to(ROOT).as_posix().startswith(_SILENT)]


@cache
def texts(path: Path) -> dict[str, frozenset[str]]:
    """Every text of a module, and those of its values that only say one of two words, as a plural does."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(node) for node in _silent(tree)}
    found: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree):
        if id(node) in silent:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.setdefault(node.value, frozenset())
        elif isinstance(node, ast.JoinedStr):
            text, small = _template(node)
            found[text] = small | found.get(text, frozenset())
            found |= {piece.strip(): frozenset() for piece in re.findall(r">([^<>{}]*[a-z][^<>{}]*)<", text)}  # in HTML
    return found


def is_sentence(text: str) -> bool:
    """Whether a text is a sentence to people, by its look: it begins like one, ends like one, and has words."""
    words = re.findall(r"[A-Za-z']{2,}", re.sub(r"\{\w+\}", " ", text))
    if text.strip() in _OTHERS or _SQL.search(text):
        return False
    return bool(_SENTENCE.fullmatch(text.strip())) and len(words) >= 2 and " " in text.strip()


def said_by_scripts() -> set[str]:
    """What the page's JavaScript says itself."""
    scripts = sorted((ROOT / "studio" / "page").glob("*.js"))
    return {text for path in scripts for text in _SAY.findall(path.read_text(encoding="utf-8"))}


def strings_of_scripts() -> set[str]:
    """Every literal of the page's JavaScript."""
    scripts = sorted((ROOT / "studio" / "page").glob("*.js"))
    return {text for path in scripts for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"', path.read_text(encoding="utf-8"))}


def _silent(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that nobody reads: documentation, what is logged, and the pieces of f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        if isinstance(node, ast.keyword) and node.arg == "advice":  # what a language model is told
            yield from ast.walk(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            yield from ast.walk(node)
        if isinstance(node, ast.JoinedStr):
            for part in node.values:
                if isinstance(part, ast.Constant):
                    yield part
                elif isinstance(part, ast.FormattedValue) and part.format_spec is not None:
                    yield from ast.walk(part.format_spec)


def _template(node: ast.JoinedStr) -> tuple[str, frozenset[str]]:
    text, small, number = "", set(), 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        assert isinstance(part, ast.FormattedValue)
        if isinstance(part.value, ast.IfExp) and all(
            isinstance(word, ast.Constant) for word in (part.value.body, part.value.orelse)
        ):
            small.add(str(number))
        text += f"{{{number}}}"
        number += 1
    return text, frozenset(small)


def titles_of_examples() -> set[str]:
    """What the shipped examples are called."""
    files = sorted((ROOT / "assets" / "examples").glob("*.json"))
    return {one["title"] for path in files for one in json.loads(path.read_text(encoding="utf-8"))}


def main() -> None:
    """Print what a catalogue lacks and what of it is of nothing, to be mended by hand."""
    for path in sorted(FOLDER.glob("*.po")):
        known = {bare(entry.msgid) for entry in entries(path)}
        spoken = {text for one in spoken_modules() for text in texts(one) if is_sentence(text)} | said_by_scripts()
        there = {bare(text) for one in modules() for text in texts(one)}
        there |= {bare(text) for text in strings_of_scripts() | titles_of_examples()}
        print(path.name, *(f"lacks   {text!r}" for text in sorted(spoken) if bare(text) not in known), sep="\n")
        print(*(f"unused  {text!r}" for text in sorted(known - there)), sep="\n")


if __name__ == "__main__":
    main()
