"""A worker whose long-video engine has a tiny model of the real classes, besides the published ones."""

from __future__ import annotations

import os

from engines import registry
from tests.engines import tiny_pyramid

if __name__ == "__main__":
    registry.SPECS[tiny_pyramid.SPEC.name] = tiny_pyramid.SPEC
    from engines.runtime.worker import main

    os._exit(main())
