"""How a measurement looks: a table, a block for each setting where a table is too wide, coloured where rich is installed; or JSON."""

from __future__ import annotations

import json
import platform
import shutil
import textwrap
from typing import Final, TextIO, TypeAlias

from ._measure import PLAIN, Measurement, Row, Setting

__all__ = ["Progress", "as_json", "show"]

_Line: TypeAlias = tuple[str, str]
"""A text and its style."""
COLUMNS: Final = ("setting", "items/s", "MB/s", "speed-up", "first item", "consumer waits", "workers busy", "same items")
LEAST: Final = 1e5
"""Bytes a second that a column for people tells apart from fewer."""
SAME: Final = {True: "yes", False: "NO", None: "?"}


class Progress:
    """One line on a terminal that tells how far a measurement is; nothing where there is no terminal."""

    def __init__(self, file: TextIO) -> None:
        self._file: Final = file
        self._shown: Final = file.isatty()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show the line."""
        if self._shown:
            bar = "#" * (20 * done // total)
            self._file.write("\r\x1b[K" + f"[{bar:.<20}] {done + 1}/{total} {what}"[: _width() - 1])
            self._file.flush()

    def end(self) -> None:
        """Wipe the line."""
        if self._shown:
            self._file.write("\r\x1b[K")
            self._file.flush()


def show(found: Measurement, target: str, file: TextIO) -> None:
    """Write a measurement for people, as wide as the terminal (`COLUMNS`)."""
    lines = _lines(found, target, _width())
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        file.writelines(f"{text}\n" for text, _ in lines)
    else:
        console = Console(file=file)
        for text, style in lines:
            console.print(Text(text, style), soft_wrap=True)


def as_json(found: Measurement, target: str) -> str:
    """Return a measurement for programs; times in seconds, sizes in bytes."""
    advice = found.advice
    return json.dumps(
        {
            "target": target,
            "python": platform.python_version(),
            "gil": found.gil,
            "cores": found.cores,
            "start_method": found.method or None,
            "length": found.length,
            "items": found.items,
            "bytes": found.nbytes,
            "rounds": found.rounds,
            "step": found.job.step,
            "max_queue_size": found.job.max_queue_size,
            "settings": [_row_as_json(found, row) for row in found.rows],
            "advice": {**_setting_as_json(advice.setting), "pays": advice.pays, "reason": advice.reason},
        },
        indent=2,
    )


def _setting_as_json(setting: Setting) -> dict[str, object]:
    return {"mode": setting.mode.value, "workers": setting.workers}


def _row_as_json(found: Measurement, row: Row) -> dict[str, object]:
    return {
        **_setting_as_json(row.setting),
        "items_per_second": row.items_per_second,
        "bytes_per_second": _rate(found, row),
        "speedup": {"median": row.speedup, "lowest": min(row.speedups), "highest": max(row.speedups)},
        "first_item": row.first,
        "consumer_waited": row.waited,
        "workers_busy": row.busy,
        "cores_used": row.cores,
        "seconds": [one.seconds for one in row.passes],
        "same_items": row.same,
        "note": row.note,
    }


def _cells(found: Measurement, row: Row) -> list[str]:
    plain = row.setting == PLAIN
    rate = _rate(found, row)
    return [
        str(row.setting),
        _number(row.items_per_second),
        _number(rate / 1e6) if rate >= LEAST else f"<{LEAST / 1e6:.1f}" if rate else "-",
        "1" if plain else f"{_ratio(row.speedup)} ({_ratio(min(row.speedups))}-{_ratio(max(row.speedups))})",
        _duration(row.first),
        f"{row.waited:.0%}",
        "-" if row.busy is None else f"{row.busy:.0%}",
        "-" if plain else SAME[row.same],
    ]


def _lines(found: Measurement, target: str, width: int) -> list[_Line]:
    """Return what to show; no line is wider than `width`, except where a single word is."""
    job = found.job
    facts = [
        f"{found.items:,} of {_times(found.length, 'item')}, {_times(found.rounds, 'round')}, queue of {job.max_queue_size}",
        *([f"step of {_duration(job.step)}"] if job.step else []),
        f"Python {platform.python_version()}{'' if found.gil else ' without GIL'}, {_times(found.cores, 'core')}",
        *([f"processes by {found.method}"] if found.method else []),
    ]
    table = _table(found)
    if max(len(text) for text, _ in table) > width:
        table = _blocks(found)
    notes = {row.note: "red" if row.same is False else "yellow" for row in found.rows if row.note}
    texts = [(target, "bold"), (", ".join(facts), ""), *table, *notes.items(), (found.advice.reason, "bold")]
    return [
        (line, style)
        for text, style in texts
        for line in textwrap.wrap(text, width, subsequent_indent=" " * (len(text) - len(text.lstrip()))) or [""]
    ]


def _table(found: Measurement) -> list[_Line]:
    """One line a setting."""
    heads = [name.rpartition(" ") for name in COLUMNS]  # in two lines, or they would be wider than what is under them
    lines = [[first for first, _, _ in heads], [last for _, _, last in heads], *(_cells(found, row) for row in found.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(cell.rjust(size) if at else cell.ljust(size) for at, (cell, size) in enumerate(zip(cells, widths, strict=True))) for cells in lines
    ]
    styled = [(f"{_mark(found, row)} {text}", _style(found, row)) for row, text in zip(found.rows, texts[2:], strict=True)]
    return [("", ""), *((f"  {text}", "dim") for text in texts[:2]), ("  " + "  ".join("-" * size for size in widths), "dim"), *styled, ("", "")]


def _blocks(found: Measurement) -> list[_Line]:
    """A few short lines a setting, where the table is too wide."""
    lines: list[_Line] = [("", "")]
    for row in found.rows:
        setting, items, size, speedup, first, waits, busy, same = _cells(found, row)
        texts = [f"{items} items/s, {'' if size == '-' else f'{size} MB/s, '}first in {first}", f"consumer waits {waits}"]
        if row.setting != PLAIN:
            texts = [f"speed-up {speedup}", texts[0], f"{texts[1]}, workers busy {busy}", f"same items: {same}"]
        lines += [(f"{_mark(found, row)} {setting}", _style(found, row)), *((f"    {text}", "") for text in texts)]
    return [*lines, ("", "")]


def _mark(found: Measurement, row: Row) -> str:
    return ">" if row.setting == found.advice.setting else " "


def _style(found: Measurement, row: Row) -> str:
    return "bold green" if row.setting == found.advice.setting else "red" if row.same is False else ""


def _width() -> int:
    return max(20, shutil.get_terminal_size().columns)


def _rate(found: Measurement, row: Row) -> float:
    """Bytes a second."""
    return row.items_per_second * found.nbytes / max(1, row.passes[0].delivered)


def _times(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _number(value: float) -> str:
    """Two digits at least, never more than seven characters."""
    millions = value / 1e6
    return f"{millions:,.3g} M" if millions >= 1 else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - two digits


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"  # noqa: PLR2004 - as wide as below


def _duration(seconds: float) -> str:
    unit, value = ("s", seconds) if seconds >= 1 else ("ms", seconds * 1e3) if seconds >= 1e-3 else ("us", seconds * 1e6)  # noqa: PLR2004 - a unit
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"  # noqa: PLR2004 - two digits
