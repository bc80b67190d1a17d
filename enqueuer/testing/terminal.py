"""How commands show what they have found: lines that fit, with styles where there are any; and one line that says how far they are."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Iterable
from typing import Final, TextIO, TypeAlias

__all__ = ["Line", "OneLine", "show", "width", "wrap"]

Line: TypeAlias = tuple[str, str]
"""A text, and its style where there are styles."""

MOMENT: Final = 0.1
"""Seconds from one line of progress to the next."""


def width() -> int:
    """Return how many characters a line may have."""
    return max(20, shutil.get_terminal_size().columns)


def wrap(text: str) -> list[str]:
    """Return the lines that a text takes; those after the first are indented where it is."""
    lead = len(text) - len(text.lstrip())
    return textwrap.wrap(text, width(), subsequent_indent=" " * (lead + 2) if lead else "", break_on_hyphens=False) or [""]


def show(lines: Iterable[Line], file: TextIO) -> None:
    """Write lines; with colours if this is a terminal and rich is installed."""
    if file.isatty():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console(file=file)
            for text, style in lines:
                console.print(Text(text, style), soft_wrap=True)
            return
    file.writelines(f"{text}\n" for text, _ in lines)


class OneLine:
    """A line on a terminal that is written again and again; elsewhere a line for each thing that is done."""

    def __init__(self, file: TextIO) -> None:
        self._file: Final = file
        self._terminal: Final = file.isatty()
        self._shown = 0.0

    def due(self) -> bool:
        """Whether it is some time since anything was written."""
        return self._terminal and time.monotonic() > self._shown + MOMENT

    def write(self, text: str) -> None:
        """Write it anew."""
        self._shown = time.monotonic()
        self._file.write("\r\x1b[K" + text[: width() - 1])
        self._file.flush()

    def end(self, text: str = "") -> None:
        """Wipe the line; where there is no terminal, write this one."""
        self._shown = 0.0
        if self._terminal:
            self._file.write("\r\x1b[K")
        elif text:
            self._file.write(f"{text}\n")
        self._file.flush()
