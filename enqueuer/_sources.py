"""Real input that every machine has: the standard library's own source files."""

from __future__ import annotations

import importlib
import sysconfig
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

__all__ = ["SourceFiles"]

LAYOUT: Final = frozenset({tokenize.COMMENT, tokenize.ENCODING, tokenize.INDENT, tokenize.NL, tokenize.NEWLINE})


class SourceFiles:
    """The modules at the top of the standard library, in the order of their names; an item reads and tokenises one of them.

    >>> SourceFiles()[0].shape
    (256,)
    """

    def __init__(self, limit: int = 64) -> None:
        """List the files; read none of them.

        Args:
            limit: Most files to list.

        Raises:
            ImportError: numpy is not installed.
        """
        importlib.import_module("numpy")  # missed here, before any work, and not in the middle of an item
        folder = Path(sysconfig.get_path("stdlib"))
        self.files: Final = tuple(sorted(folder.glob("*.py"), key=lambda path: path.name)[:limit])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> NDArray[numpy.int64]:
        """Return how often each byte value occurs in the code of a file, without its layout and comments: shape (256,)."""
        import numpy

        with self.files[index].open("rb") as file:
            code = "".join(token.string for token in tokenize.tokenize(file.readline) if token.type not in LAYOUT)
        return numpy.bincount(numpy.frombuffer(code.encode(), numpy.uint8), minlength=256)
