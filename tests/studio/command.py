"""The command line with the stand-in engine: python -m tests.studio.command generate ..."""

from __future__ import annotations

import sys

from engines import registry
from studio import command_line, one_clip
from tests.studio import stand_in
from tests.studio.stand_in_command import stand_in_command

if __name__ == "__main__":
    registry.SPECS["phantom-wan"] = stand_in.spec()
    one_clip.WORKER = stand_in_command()
    sys.exit(command_line.main())
