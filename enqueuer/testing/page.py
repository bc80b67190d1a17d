"""The page of the contract, made from the data: `python -m enqueuer.testing.page > docs/guarantees.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..guarantees import CONTRACT, Clause
from .checks import CHECKS
from .twins import TWINS

__all__ = ["page"]


def page() -> str:
    """Return the page, as Markdown."""
    promises = [clause for clause in CONTRACT if clause.promised]
    return "\n".join(
        (
            "# The contract",
            "",
            "Made from `enqueuer/guarantees.py`; a test compares. Ids are never reused. Code says `# G4` where it keeps a promise.",
            "",
            "## Promises",
            "",
            "| id | name | the enqueuer promises | documented upstream | checks | broken twins |",
            "|---|---|---|---|---|---|",
            *(_row(clause) for clause in promises),
            "",
            "## Assumptions on the caller",
            "",
            *_list("A"),
            "",
            "## Not promised",
            "",
            *_list("N"),
            "",
            "## The twins",
            "",
            "Each is a few lines on top of the real code and breaks one promise; its checks must refuse it.",
            "",
            *(f"- **{twin.name}** ({twin.breaks}): {twin.says}" for twin in TWINS),
            "",
        )
    )


def _row(clause: Clause) -> str:
    checks = _names(check.name.removeprefix("check_").replace("_", " ") for check in CHECKS if check.guarantee == clause.id)
    twins = _names(twin.name for twin in TWINS if twin.breaks == clause.id)
    owed = f"{'; ' if clause.partly else ''}owed: {clause.owed}" if clause.owed else ""
    cells = (clause.id, clause.name, clause.text, clause.upstream, checks + owed, twins + owed)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _names(names: Iterable[str]) -> str:
    return "; ".join(names)


def _list(kind: str) -> list[str]:
    return [
        f"- **{clause.id}, {clause.name}.** {clause.text}" + (f" Shown by: {clause.owed}." if clause.owed else "")
        for clause in CONTRACT
        if clause.id.startswith(kind)
    ]


if __name__ == "__main__":
    sys.stdout.write(page())
