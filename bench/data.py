"""Generates the bench's Asterisk files in a process of its own, so that the measuring one stays small.

(The kernel starts a child's peak memory at what its parent held when it forked.)
"""

import argparse
from datetime import date
from pathlib import Path

from bench.night import ACCOUNTS
from callward.feeds import asterisk_files

_SEED = 20260305
_ROWS_PER_FILE = 500_000


def main() -> None:
    """Writes the files, then an empty one named `complete`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("day", type=date.fromisoformat)
    options = parser.parse_args()
    seed, files = _SEED + options.day.toordinal(), max(1, options.rows // _ROWS_PER_FILE)
    asterisk_files(options.folder, seed=seed, rows=options.rows, files=files, day=options.day, accounts=ACCOUNTS)
    (options.folder / "complete").touch()


if __name__ == "__main__":
    main()
