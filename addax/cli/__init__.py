"""The command line: `addax optimize`, `verify`, `bisect` and the others that `addax --help` lists.

Exit codes: 0 done; 1 an error of addax, one line on standard error; 2 wrong usage; 3 what was
compared differs, or a fault was found; 4 a comparison was left undecided; 130 interrupted.
"""

import sys

from addax.cli import comparing, compiling, debugging, measuring, showing, targets, timing
from addax.cli._options import app

__all__ = [
    "app",
    "comparing",
    "compiling",
    "debugging",
    "main",
    "measuring",
    "showing",
    "targets",
    "timing",
]

_INTERRUPTED = 130  # what shells expect of a program that Ctrl-C ended


def main() -> None:
    """Run the command line; errors of addax become one line and exit code 1."""
    from addax.errors import AddaxError

    try:
        app()
    except AddaxError as error:
        print(f"addax: error: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"addax: note: {note}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"addax: error: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != _INTERRUPTED:
            raise
        print("addax: interrupted; nothing half-written stays", file=sys.stderr)
        sys.exit(_INTERRUPTED)
