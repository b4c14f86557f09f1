"""Kinora's page: `python app.py` serves it on 127.0.0.1:7860; on a Hugging Face Space this is the entry point.

Set-up comes from the environment (KINORA_OUTPUTS, KINORA_MODELS, KINORA_PASSWORD, ...), or as the flags of
`python -m studio serve`.
"""

import sys

from engines.errors import StudioError
from studio.serving import run
from studio.settings import from_environment


def main() -> int:
    """Serve until stopped; returns the exit code."""
    if flags := sys.argv[1:]:
        from studio.command_line import main as command_line

        return command_line(["serve", *(["--open"] if sys.stdout.isatty() else []), *flags])
    try:
        run(from_environment(open_browser=sys.stdout.isatty()))
    except StudioError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
