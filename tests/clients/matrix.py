"""The page that says which client gets what through which door, made from a run of the tests.

    .venv-clients-vendors/bin/pytest tests/clients --doors=build/doors.json
    .venv-clients-vendors/bin/python tests/clients/matrix.py write build/doors.json
    .venv-clients-vendors/bin/python tests/clients/matrix.py check build/doors.json

`check` passes when the page in the repository is the page of that run: no door, client, version or feature
more, none less.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "doors-matrix.md"
HEAD = """\
# Doors and their clients

Every mark below is a test in `tests/clients` that passed with the client as its vendor publishes it, in the
version given, not changed in any line, against a server in a process of its own. Made by `make door-matrix`;
`make test-clients` fails when a run and this page differ.

`yes`: every test of it passed. `no`: one did not. Empty: no test, most often because that client has no such
feature.
"""


def page(rows: list[dict[str, Any]]) -> str:
    """The page of these rows, whatever their order."""
    doors = sorted({row["door"] for row in rows}, key=str.casefold)
    return "\n".join(
        [HEAD, *(_section(door, [row for row in rows if row["door"] == door]) for door in doors)]
    )


def _section(door: str, rows: list[dict[str, Any]]) -> str:
    clients = sorted({(row["client"], row["version"]) for row in rows})
    features = sorted({row["feature"] for row in rows}, key=str.casefold)
    passed = {(row["feature"], row["client"]): row["passed"] for row in rows}
    lines = [f"## {door}", ""]
    lines.append(_line("", *(f"{client} {version}" for client, version in clients)))
    lines.append(_line("---", *("---" for _ in clients)))
    for feature in features:
        marks = {True: "yes", False: "no", None: ""}
        lines.append(_line(feature, *(marks[passed.get((feature, client))] for client, _ in clients)))
    return "\n".join([*lines, ""])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    """Writes or checks the page; the exit code says whether it is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["write", "check"])
    parser.add_argument("record", type=Path, help="what pytest wrote with --doors")
    arguments = parser.parse_args()
    record = json.loads(arguments.record.read_text(encoding="utf-8"))
    if not record["is_whole"]:
        print(f"{PAGE.name}: left as it is, for this was not a run of all tests", file=sys.stderr)
        return 0
    made = page(record["rows"])
    if arguments.action == "write":
        PAGE.write_text(made, encoding="utf-8")
        return 0
    there = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if there == made:
        return 0
    changes = difflib.unified_diff(there.splitlines(), made.splitlines(), PAGE.name, "this run", lineterm="")
    print(*changes, f"{PAGE.name} is not of this run: make door-matrix", sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
