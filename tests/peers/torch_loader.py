"""The `DataLoader` of torch: worker processes of any start method. Read again and again, with workers that stay."""

from __future__ import annotations

from functools import partial
from typing import Any

from handed import ADDS, LACKS, Again, Handed, iterated
from torch.utils.data import DataLoader, Dataset

from enqueuer.testing.kit import Adapter


class Adapted(Handed, Dataset):  # type: ignore[type-arg]
    """What is read, as it wants it."""


def _identity(item: Any) -> Any:
    return item


def read(sequence: Any, workers: int, size: int, *, method: str) -> Again:
    """Read it for ever."""
    loader: Any = DataLoader(
        Adapted(sequence),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=max(1, size // workers),
        collate_fn=_identity,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    return Again(partial(iter, loader))


def _adapter(method: str) -> Adapter:
    return Adapter(
        factory=iterated("torch 2.13", method, partial(read, method=method)),
        lacks=LACKS,
        adds=ADDS | {"a_run_is_over_when_its_error_was_delivered": "it has no is_running()"},
        deviations={"G3": "None is an item as any other"},
    )


fork, spawn = _adapter("fork"), _adapter("spawn")
