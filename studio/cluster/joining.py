"""A process of this machine joins a Ray cluster, and brings the code of this project for its nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engines.errors import DeviceError
from studio.jobs.worker_process import ROOT

_SENT = ("engines", "studio", "assets")


def join(address: str) -> Any:
    """The module `ray`, connected to the cluster whose head is at `address`.

    The nodes run the code and the built-in models of this very folder, sent once by content: none of them can have
    another version.

    Raises:
        DeviceError: no cluster answers there, or this machine is none of its nodes.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    code = {"working_dir": str(ROOT), "excludes": [*_left_out(ROOT), "__pycache__"]}
    try:
        ray.init(address=address, namespace="kinora", runtime_env=code, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises what its parts raise
        raise DeviceError(
            f"This machine is no node of a Ray cluster at {address}:", hint=f"run ray start --address={address} here."
        ) from error
    return ray


def machines(ray: Any) -> list[dict[str, Any]]:
    """The nodes that can make clips: their id, name and what Ray says they have."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    names = [node["NodeName"] for node in alive]
    return [
        {
            "id": node["NodeID"],
            "name": name if names.count(name) == 1 else f"{name}-{node['NodeID'][:4]}",
            "gpus": int(node["Resources"].get("GPU", 0)),
            "cpus": int(node["Resources"].get("CPU", 0)),
            "kind": next(
                (key.partition(":")[2] for key in node["Resources"] if key.startswith("accelerator_type:")), ""
            ),
        }
        for node, name in zip(alive, names, strict=True)
    ]


def _left_out(root: Path) -> list[str]:
    """Everything but the code and its models, in the notation of .gitignore: clips of people above all."""
    return [f"/{''.join(f'[{sign}]' if sign in '*?[' else sign for sign in path.name)}"
            for path in root.iterdir() if path.name not in _SENT]  # fmt: skip
