"""How the tensors of a network are named in the files people have, as data.

A layout is one way of naming (the authors' own, or the library's); an architecture is a network with all its layouts.
Regular expressions are matched against whole keys in `signature` and `ignored` and against parts of keys in `renames`.
A file may hold a network under a prefix, beside others: a place is where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
Renames = tuple[tuple[str, "str | Callable[[re.Match[str]], str]"], ...]

# What compilers and parallel trainers put between the names of modules.
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
# Words in the name of a part that say what it is beside the network that was trained.
AVERAGES = {"ema", "average", "averaged", "averages", "avg", "swa", "shadow", "polyak"}
BOOKKEEPING = re.compile(r"decay|num_updates|n_averaged|initted|(optimization_)?step")
OTHERS = {"critic", "discriminator", "teacher", "fake", "real", "target", "optimizer", "optim"}
# Of these, what may itself be the average of the network.
AVERAGED_BESIDE = {"teacher", "target"}
# What an optimiser keeps for every weight is named like an average and is none.
MOMENTS = re.compile(r"(^|\.)(exp_avg(_sq)?|exp_inf|max_exp_avg_sq|momentum_buffer)\.")
MOST_PLACES = 64


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from: row block `part` of `parts` equal ones of the file's tensor `key`."""

    key: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Layout:
    """One way of naming a network's tensors.

    Attributes:
        name: whose names these are, for people.
        signature: patterns of keys that every such file has and that tell it from other networks.
        renames: (pattern, replacement) in order, or a function of the keys where depth decides.
        ignored: patterns of keys that the file holds and inference does not use.
        splits: (pattern of a fused tensor after renaming, names of its equal row blocks) to put in its place.
    """

    name: str
    signature: tuple[str, ...]
    renames: Renames | Callable[[Iterable[str]], Renames] = ()
    ignored: tuple[str, ...] = ()
    splits: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def matches(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is laid out like this."""
        keys = list(keys)
        return all(any(re.fullmatch(pattern, key) for key in keys) for pattern in self.signature)

    def ignores(self, key: str) -> bool:
        """Whether the layout names `key` as one that is not used."""
        return any(re.fullmatch(pattern, key) for pattern in self.ignored)

    def convert(self, keys: Iterable[str]) -> dict[str, Source]:
        """{parameter name: where it comes from} for every key that is not ignored."""
        keys = list(keys)
        rules = self.renames(keys) if callable(self.renames) else self.renames
        compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
        sources: dict[str, Source] = {}
        for key in keys:
            if self.ignores(key):
                continue
            name = key
            for pattern, replacement in compiled:
                name = pattern.sub(replacement, name)
            for pattern, blocks in self.splits:
                if re.search(pattern, name):
                    for part, block in enumerate(blocks):
                        sources[re.sub(pattern, block, name)] = Source(key, part, len(blocks))
                    break
            else:
                sources[name] = Source(key)
        return sources


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network that checkpoints can be loaded into.

    Attributes:
        title: what it is, for people (engines/loading/families.py): "a Wan video transformer".
        class_name: name of the class, as starters carry it in their metadata.
        construct: (config) -> module; called on the meta device.
        configure: {parameter name: shape} -> config; everything a native file's shapes tell. None where they do not
            tell enough and `config_file` is needed.
        layouts: the layouts it is found in.
        keep_float32: name parts of parameters that stay float32 in every precision.
        aliases: parameter -> the parameter whose tensor it shares; a file may hold either or both.
        restore: rebuilds what the meta device emptied and no file holds (rope tables, position ids).
        blocks: paths of the module lists whose members may take turns on a device ("blocks", "encoder.block"); the
            owner of one list does not contain the owner of another.
        precisions: names of those in which its numbers are right.
        makeshifts: names of those in which they are a little off, for devices on which nothing else fits.
        config_file: name of the JSON file with the configuration, among the files of the role or beside the weights.
    """

    title: str
    class_name: str
    construct: Callable[[dict[str, Any]], Any]
    configure: Callable[[Shapes], dict[str, Any]] | None
    layouts: tuple[Layout, ...]
    keep_float32: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    restore: Callable[[Any], None] = lambda module: None
    blocks: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("bfloat16", "float16", "float32")
    makeshifts: tuple[str, ...] = ()
    config_file: str = ""

    def layout(self, keys: Iterable[str]) -> Layout | None:
        """The layout of a file with these keys, None if it is another network."""
        keys = list(keys)
        return next((layout for layout in self.layouts if layout.matches(keys)), None)

    def stays_float32(self, name: str) -> bool:
        """Whether the parameter `name` keeps full precision."""
        return any(part in self.keep_float32 for part in name.split("."))

    def places(self, keys: Iterable[str]) -> list[Place]:
        """Everywhere in a file with these keys that such a network stands, the shortest prefix first."""
        names = {WRAPPERS.sub("", key.replace("/", ".")): key for key in keys}
        found = self._places(joined(names))
        return found or next((places for other in self._guesses(names) if (places := self._places(other))), [])

    def _guesses(self, names: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The keys without each prefix that leaves no name twice, where nothing is found otherwise.

        What a layout ignores is another network's, so its prefix is no accident.
        """
        for prefix in _prefixes(names):
            foreign = (
                any(layout.ignores(name) for layout in self.layouts) for name in names if name.startswith(prefix)
            )
            if (parts := _apart(names, prefix)) and not all(foreign):
                yield parts[0] | parts[1]

    def _places(self, names: Mapping[str, str]) -> list[Place]:
        """The same, of {name: key of the file}."""
        first = [re.compile(layout.signature[0]) for layout in self.layouts]
        prefixes = {name[:start] for name in names if (start := _start(name, first)) is not None}
        found: list[Place] = []
        for prefix in sorted(prefixes, key=len)[:MOST_PLACES]:
            inside = {name[len(prefix) :]: key for name, key in names.items() if name.startswith(prefix)}
            layout = self.layout(inside)
            if layout is None or any(outer.ignores(prefix, inside) for outer in (*found, Place("", layout, {}))):
                continue
            found.append(Place(prefix, layout, inside))
        return [place.without(other for other in found if other is not place) for place in found]


@dataclass(frozen=True)
class Place:
    """Where a network stands in a file.

    Attributes:
        prefix: what its keys begin with, wrappers aside: "model.diffusion_model.", or "".
        keys: {key without prefix and wrappers: key of the file}.
    """

    prefix: str
    layout: Layout
    keys: Mapping[str, str]

    @property
    def title(self) -> str:
        """The place in words."""
        return f'"{self.prefix.removesuffix(".")}"' if self.prefix else "no prefix"

    @property
    def averaged(self) -> bool:
        """Whether these are the averaged weights of a training, by the name of the part."""
        return _is_average(self.prefix)

    @property
    def beside(self) -> bool:
        """Whether this network was used to train another, by the name of the part."""
        return bool(_words(self.prefix) & OTHERS or MOMENTS.search(self.prefix))

    def ignores(self, prefix: str, names: Iterable[str]) -> bool:
        """Whether this network's files hold what stands under `prefix` without using it."""
        inner = prefix.removeprefix(self.prefix)
        return prefix.startswith(self.prefix) and all(self.layout.ignores(inner + name) for name in names)

    def completed(self, plain: Place) -> Place:
        """These averaged weights, and those of the network itself that were not averaged."""
        keys = {name: key for name, key in self.keys.items() if name in plain.keys or not BOOKKEEPING.fullmatch(name)}
        return replace(self, keys=dict(plain.keys) | keys)

    def averages(self, keys: Iterable[str]) -> list[Place]:
        """This network's averaged weights where their names are written without dots, as Stable Diffusion's training
        does ("model_ema.diffusion_modelblocks0..."), or are numbers in the network's order, as averages kept in lists
        have them ("ema.shadow_params.0")."""
        parts = self.prefix.removesuffix(".").split(".")
        before = {"".join(parts[start:]) for start in range(len(parts) + 1)}
        dotless = {start + name.replace(".", ""): name for name in self.keys for start in before}
        numbered = dict(zip(map(str, range(len(self.keys))), self.keys, strict=True))
        found: dict[str, dict[str, str]] = {}
        lists: dict[str, dict[str, str]] = {}
        for key in keys:
            part, _, rest = key.rpartition(".")
            if rest in dotless and _is_average(f"{part}."):
                found.setdefault(f"{part}.", {})[dotless[rest]] = key
            elif rest.isdecimal() and _is_average(f"{part}."):
                lists.setdefault(f"{part}.", {})[numbered.get(rest, "")] = key
        found |= {part: names for part, names in lists.items() if names.keys() == self.keys.keys()}
        return [replace(self, prefix=prefix, keys=names) for prefix, names in found.items()]

    def without(self, others: Iterable[Place]) -> Place:
        """This place without what stands in others inside it."""
        prefixes = (other.prefix for other in others if other.prefix.startswith(self.prefix))
        inner = tuple(prefix.removeprefix(self.prefix) for prefix in prefixes)
        return replace(self, keys={name: key for name, key in self.keys.items() if not name.startswith(inner)})


def joined(names: Mapping[str, str]) -> dict[str, str]:
    """{name: key} of a file, without a prefix that only some of a network's keys have, as a broken script leaves it.

    Such keys are named like the others once the prefix is off, and none of them is there twice; another network, or the
    same one averaged, is not like that.
    """
    found = dict(names)
    for prefix in _prefixes(names):
        if parts := _apart(found, prefix):
            inside, rest = map(_kinds, parts)
            if inside & rest and 2 * len(inside & rest) >= len(inside | rest):
                found = parts[0] | parts[1]
    return found


def _kinds(names: Iterable[str]) -> set[str]:
    """Which parts of blocks names are of, whatever the block's number: "blocks.0.self_attn"."""
    parts = (re.sub(r"\d+", "0", name).rsplit(".", 2)[0] for name in names)
    return {part for part in parts if "0" in part.split(".")}


def _prefixes(names: Iterable[str]) -> list[str]:
    return sorted({part for name in names for part in _leading(name)}, key=len, reverse=True)


def _apart(names: Mapping[str, str], prefix: str) -> tuple[dict[str, str], dict[str, str]] | None:
    """{name: key} of what has a prefix, without it, and of the rest; None if one is empty, or both have a name."""
    inside = {name[len(prefix) :]: key for name, key in names.items() if name.startswith(prefix)}
    rest = {name: key for name, key in names.items() if not name.startswith(prefix)}
    return None if not inside or not rest or inside.keys() & rest.keys() else (inside, rest)


def _leading(name: str) -> Iterable[str]:
    """What may be a prefix of a name: "model.", "model.diffusion_model.", up to the first number."""
    parts = name.split(".")[:-1]
    for count, part in enumerate(parts, start=1):
        if part.isdecimal():
            return
        yield ".".join(parts[:count]) + "."


def _start(name: str, patterns: Iterable[re.Pattern[str]]) -> int | None:
    """Where in `name`, at its beginning or after a dot, the rest of it is what a pattern describes."""
    starts = (0, *(dot.end() for dot in re.finditer(r"\.", name)))
    return next((start for start in starts if any(pattern.fullmatch(name, start) for pattern in patterns)), None)


def _is_average(prefix: str) -> bool:
    """Whether averaged weights stand under a prefix, and those of the network itself."""
    words = _words(prefix)
    return bool(words & AVERAGES) and not words & (OTHERS - AVERAGED_BESIDE) and not MOMENTS.search(prefix)


def _words(prefix: str) -> set[str]:
    """The words in a part's name: "netG_ema." -> {"net", "g", "ema"}."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", prefix)}
