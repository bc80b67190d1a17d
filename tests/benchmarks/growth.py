"""How cost grows: with workers, with the queue, with the size of items and with the length of epochs. This project alone; minutes in all.

    nox -s bench -- --growth

Each point is the median of some readings by `readers.py`, all points of a curve in turn. Kept in `.nox/peers/growth.json`, and told as a table.
"""

from __future__ import annotations

import json
import os
import statistics
from typing import Any, Final

from peers import KEPT, Asked

MODES: Final = ("thread", "process")

CURVES: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "workers": ("workers", (1, 2, 3, 4, 6, 8)),
    "queue": ("max_queue_size", (1, 2, 5, 10, 30, 100)),
    "item": ("bytes of an item", (64, 1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26)),
    "epoch": ("items of an epoch", (1, 3, 10, 100, 1000, 10_000)),
}
"""What is varied in `readers.py` -> what it is, and its values."""


def row(mode: str, what: str, value: int) -> dict[str, Any]:
    """Return the row that is read for a point."""
    asked = {"kind": "stream", "mode": mode, "item": "tiny", "items": 3000, "workers": 2, "queue": 10}
    if what == "item":
        return asked | {"item": str(value), "items": max(20, min(3000, (1 << 30) // value))}
    return asked | {what: value} | ({"hook": True} if what == "epoch" else {})


def measure(rounds: int) -> dict[str, Any]:
    """Return microseconds an item: curve -> mode -> one for each value."""
    found: dict[str, Any] = {"load": os.getloadavg()[0], "rounds": rounds}
    for what, (says, values) in CURVES.items():
        found[what] = {"says": says, "values": values}
        for mode in MODES:
            asked = Asked("ours")
            try:
                readings = [[asked.ask(row(mode, what, value)).get("us") for value in values] for _ in range(rounds)]
            finally:
                asked.end()
            found[what][mode] = [statistics.median(point) for point in zip(*readings, strict=True)]
            print(
                f"{says}, {mode}: " + ", ".join(f"{value:,}: {us:,.1f} µs" for value, us in zip(values, found[what][mode], strict=True)), flush=True
            )
    (KEPT / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    return found
