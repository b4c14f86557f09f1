"""Serves the studio with the stand-in engine from a process in which torch cannot be imported.

python -m tests.studio.serve PORT OUTPUTS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.modules["torch"] = None  # any import of it fails from here on
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engines import registry  # noqa: E402
from studio import serving  # noqa: E402
from studio.jobs import local  # noqa: E402
from studio.settings import Settings, from_environment  # noqa: E402
from tests.studio import stand_in  # noqa: E402
from tests.studio.stand_in_command import stand_in_command  # noqa: E402

if __name__ == "__main__":
    registry.SPECS["phantom-wan"] = stand_in.spec()
    original = local.LocalExecutor.__init__

    def with_stand_in(self: local.LocalExecutor, settings: Settings, store: object) -> None:
        original(self, settings, store, command=stand_in_command())

    local.LocalExecutor.__init__ = with_stand_in
    port, outputs = int(sys.argv[1]), Path(sys.argv[2])
    sys.stdout.write(f"{os.getpid()}\n")
    serving.run(from_environment(port=port, outputs=outputs, devices=("cpu",)))
