"""What the adapters of peers have in common."""

from __future__ import annotations

from typing import Any


class Handed:
    """A sequence that hands everything on to another, for peers that want one of a class of their own: derive from this first."""

    def __init__(self, sequence: Any) -> None:
        super().__init__()
        self.sequence = sequence

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, index: int) -> Any:
        return self.sequence[index]

    def on_epoch_end(self) -> None:
        """Hand it on, if there is one."""
        hook = getattr(self.sequence, "on_epoch_end", None)
        if hook is not None:
            hook()
