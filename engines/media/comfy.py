"""A ComfyUI graph read for what it says of a clip: its prompts, and the numbers of the nodes that are known.

Files carry the graph in two forms: as it was run ("prompt": node id -> its class and named inputs), and as it was drawn
("workflow": a list of nodes with their values in the order of the nodes' fields, and a list of links). The drawn form
is read as if it had been run. Untrusted: bounded, and only texts and finite numbers come out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MOST_NODES = 2_000
_MOST_LINKS = 10_000
_DEEPEST = 8
_MOST_LOOKS = 20_000  # links followed in one graph, however they branch and meet
# What nodes call a number -> the name of ours.
NAMES = {
    "seed": "seed", "noise_seed": "seed", "steps": "steps", "cfg": "guidance_scale", "guidance": "guidance_scale",
    "shift": "shift", "width": "width", "height": "height", "length": "frames", "num_frames": "frames",
    "frame_rate": "fps", "fps": "fps",
}  # fmt: skip
# Whose numbers count first: what samples, makes the latents, writes the video. Others may mean anything by them.
_KNOWN = (
    ("ksampler", "sampler", "scheduler", "noise"),
    ("latent", "imagetovideo", "emptyembeds", "tovideo"),
    ("modelsampling", "guider", "guidance"),
    ("videocombine", "createvideo", "savevideo", "savewebm", "saveanimated"),
)
# The fields of drawn nodes in their order, "" for what says nothing of a clip.
_FIELDS: Mapping[str, Sequence[str]] = {
    "KSampler": ("seed", "", "steps", "cfg"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg"),
    "RandomNoise": ("noise_seed",),
    "BasicScheduler": ("", "steps"),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "EmptyHunyuanLatentVideo": ("width", "height", "length"),
    "EmptyLatentImage": ("width", "height"),
    "WanImageToVideo": ("width", "height", "length"),
    "Wan22ImageToVideoLatent": ("width", "height", "length"),
    "WanPhantomSubjectToVideo": ("width", "height", "length"),
    "ModelSamplingSD3": ("shift",),
    "CreateVideo": ("fps",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "INTConstant": ("value",),
}
_TEXTS = ("text", "prompt", "positive_prompt", "conditioning", "positive", "value", "string")
_NUMBERS = ("value", "number", "int", "float")

Graph = Mapping[str, Any]


def graph_of(values: Any, parsed: Callable[[Any], Any]) -> Graph | None:
    """The graph in what a file says: alone, under "prompt" or under "workflow"; None for anything else.

    `parsed` gives JSON that stands in a text as an object, or None.
    """
    held = parsed(values.get("prompt")) if isinstance(values, Mapping) else None
    for candidate in (values, held):
        if isinstance(candidate, dict) and 0 < len(candidate) <= MOST_NODES:
            nodes = [node for node in candidate.values() if isinstance(node, dict) and "class_type" in node]
            if nodes and len(nodes) >= len(candidate) / 2:
                return candidate
    drawn = parsed(values.get("workflow")) if isinstance(values, Mapping) else None
    return _as_run(values) or _as_run(drawn)


def settings(graph: Graph, *, text: Callable[[str], str], number: Callable[[Any], float | None]) -> dict[str, Any]:
    """Prompts and numbers by our names. `text` makes a text plain, `number` gives a finite number or None."""
    found: dict[str, Any] = {}
    looks = iter(range(_MOST_LOOKS))
    for node in _in_order(graph):
        for theirs, value in _inputs(node).items():
            ours = NAMES.get(theirs)
            if (
                ours
                and ours not in found
                and (said := _number(graph, value, number, (*_NUMBERS, theirs, ours), looks)) is not None
            ):
                found[ours] = said
    for ours, theirs in (("prompt", "positive"), ("negative_prompt", "negative")):
        ways = (_inputs(node).get(theirs) for node in _in_order(graph))
        if said := next((plain for way in ways if (plain := _text(graph, way, text, looks))), ""):
            found[ours] = said
    if "prompt" not in found and (said := next(_all_texts(graph, text), "")):
        found["prompt"] = said
    return found


def _as_run(drawn: Any) -> Graph | None:
    """A drawn graph as it would be run: the values of known nodes under their names."""
    nodes = drawn.get("nodes") if isinstance(drawn, dict) else None
    if not isinstance(nodes, list) or not 0 < len(nodes) <= MOST_NODES:
        return None
    links = drawn.get("links")
    sources = {
        link[0]: [str(link[1]), link[2]]
        for link in (links if isinstance(links, list) else [])[:_MOST_LINKS]
        if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int) and isinstance(link[1], int | str)
    }
    graph: dict[str, Any] = {}
    for node in nodes:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            continue
        given = node.get("widgets_values")
        fields = _FIELDS.get(node["type"], ())
        named = zip(fields, given, strict=False) if isinstance(given, list) else ()
        inputs: dict[str, Any] = {name: value for name, value in named if name}
        if isinstance(given, dict):
            inputs |= given
        for one in node.get("inputs") if isinstance(node.get("inputs"), list) else ():
            if isinstance(one, dict) and isinstance(one.get("link"), int) and one["link"] in sources:
                inputs[str(one.get("name"))] = sources[one["link"]]
        graph[str(node.get("id"))] = {"class_type": node["type"], "inputs": inputs}
    return graph or None


def _in_order(graph: Graph) -> list[Any]:
    """The nodes, those first whose numbers mean what we mean by them; turned off in a drawn graph or not, each once."""

    def rank(node: Any) -> int:
        kind = str(node.get("class_type", "")).lower() if isinstance(node, dict) else ""
        return next((place for place, parts in enumerate(_KNOWN) if any(part in kind for part in parts)), len(_KNOWN))

    return sorted(graph.values(), key=rank)


def _inputs(node: Any) -> Mapping[str, Any]:
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def _linked(graph: Graph, link: Any) -> Mapping[str, Any]:
    """The inputs of the node at the end of a link [node, output]; none for anything else."""
    return _inputs(graph.get(str(link[0]))) if isinstance(link, list) and link else {}


def _number(
    graph: Graph,
    value: Any,
    number: Callable[[Any], float | None],
    names: Sequence[str],
    looks: Iterator[int],
    depth: int = 0,
) -> float | None:
    """A number, or the one at the end of a link, which a node there has under one of these names."""
    if not isinstance(value, list):
        return number(value)
    inputs = _linked(graph, value) if depth < _DEEPEST and next(looks, None) is not None else {}
    ways = (_number(graph, inputs[name], number, names, looks, depth + 1) for name in names if name in inputs)
    return next((said for said in ways if said is not None), None)


def _text(graph: Graph, value: Any, text: Callable[[str], str], looks: Iterator[int], depth: int = 0) -> str:
    """A text, or the one at the end of a link, through at most a few nodes."""
    if isinstance(value, str):
        return text(value)
    inputs = _linked(graph, value) if depth <= _DEEPEST and next(looks, None) is not None else {}
    ways = (_text(graph, inputs[name], text, looks, depth + 1) for name in _TEXTS if name in inputs)
    return next((said for said in ways if said), "")


def _all_texts(graph: Graph, text: Callable[[str], str]) -> Iterator[str]:
    """Every text of a graph that may be a prompt, in order."""
    for node in graph.values():
        for name in ("text", "prompt", "positive_prompt"):
            if isinstance(said := _inputs(node).get(name), str) and (plain := text(said)):
                yield plain
