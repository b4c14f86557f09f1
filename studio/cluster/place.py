"""Where in a cluster a relay puts its worker, as one word of its command line; and how relays end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

MACHINE_LOST = 4
"""Exit code of a relay whose machine is gone."""
NO_ROOM = 5
"""Exit code of a relay that its machine gave no place."""


@dataclass(frozen=True)
class Place:
    """One GPU of a node, or its CPU.

    Attributes:
        address: of the cluster's head, "host:port".
        node: Ray's id of the node.
        gpu: whether it is a GPU.
        workers: how many such places the node has.
        command: the words that start a worker there; none for the usual ones.
    """

    address: str
    node: str
    gpu: bool = False
    workers: int = 1
    command: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One word."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(word: str) -> Place:
        """The place in such a word."""
        told = json.loads(word)
        return Place(**(told | {"command": tuple(told["command"])}))
