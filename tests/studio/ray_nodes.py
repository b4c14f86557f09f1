"""A Ray cluster on this machine, in a process of its own: its address is the first line, then it does what it is told.

"add NAME" and "kill NAME", one a line; each is answered by the same line once it is done.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    some: dict[str, Any] = {"object_store_memory": 80 * 2**20, "num_gpus": 0}
    cluster = Cluster(initialize_head=True, head_node_args=some | {"num_cpus": 0, "include_dashboard": False})
    nodes = {}
    print(cluster.address, flush=True)
    for line in sys.stdin:
        what, name = line.split()
        if what == "add":
            nodes[name] = cluster.add_node(num_cpus=1, node_name=name, **some)
        else:
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        print(line, end="", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
