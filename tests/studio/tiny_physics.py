"""A worker whose physics engine has a tiny model of the real classes, besides the published ones."""

from __future__ import annotations

import os

from engines import registry
from tests.engines.tiny_models import TINY

if __name__ == "__main__":
    registry.SPECS["phantom-physics"] = TINY["phantom-physics"].spec
    from engines.runtime.worker import main

    os._exit(main())
