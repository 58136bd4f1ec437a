"""The mutation run from the command line: `python -m tests.mutation [FAMILY ...] [--list]`."""

import argparse
import sys

from tests.mutation.report import mutated, surveys, totals
from tests.mutation.survivors import PATH, complaints, read


def main() -> int:
    """Print each family, its survivors, and the totals; 1 if the table of survivors is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="all by default")
    parser.add_argument("--list", action="store_true", help="print every mutant and its law")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    unknown = set(options.families) - set(mutated())
    if unknown:
        parser.error(f"no such exact family: {', '.join(sorted(unknown))}")
    write = sys.stdout.write
    found, reasons = [], read(PATH.read_text("utf-8"))
    for survey in surveys(options.families or mutated(), options.jobs):
        found.append(survey)
        write(f"{survey}\n")
        sys.stdout.flush()
        for mutant, law in survey.killed if options.list else ():
            write(f"  {law}: {mutant}\n")
        for mutant in survey.survivors:
            write(f"  survived: {mutant}\n")
            write(f"      {reasons.get(mutant.key, 'NOT LISTED: ' + mutant.key)}\n")
    write(f"{totals(found)}\n")
    wrong = complaints(found, reasons)
    sys.stdout.writelines(f"{complaint}\n" for complaint in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
