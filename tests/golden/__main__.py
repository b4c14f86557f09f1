"""python -m tests.golden DIR: every case below DIR, one line each; exit code 1 if any fails."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from tests.golden.run import run_all


def main() -> int:
    """Prints a line a case and `N passed, N failed`."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "cases"
    if not root.is_dir():
        print(f"{root} is no folder", file=sys.stderr)
        return 2
    passed = failed = 0
    for name, verdict in run_all(root):
        passed, failed = passed + verdict.passed, failed + (not verdict.passed)
        figure = "" if math.isnan(verdict.max_error) else f"max error {verdict.max_error:.2e}"
        print(f"{'ok  ' if verdict.passed else 'FAIL'} {name}  {figure} {verdict.message}".rstrip(), flush=True)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
