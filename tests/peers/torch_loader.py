"""The `DataLoader` of torch: worker processes of any start method. Read again and again, with workers that stay."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from handed import ADDS, LACKS, Epochs, Handed
from torch.utils.data import DataLoader, Dataset

from enqueuer.testing.kit import Adapter
from enqueuer.testing.remote import remote
from enqueuer.testing.subject import Factory


class Adapted(Handed, Dataset):  # type: ignore[type-arg]
    """What is read, as it wants it."""


def _identity(item: Any) -> Any:
    return item


def epochs(sequence: Any, workers: int, size: int, *, method: str) -> Iterator[Any]:
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
    while True:
        yield from loader


def _adapter(method: str) -> Adapter:
    def apart(sequence: Any, **_: Any) -> Epochs:
        return Epochs(sequence, partial(epochs, method=method))

    factory = Factory(name=f"torch 2.13, {method}", ordered=lambda sequence, **more: apart(remote(sequence), **more), method=method, apart=apart)
    return Adapter(factory=factory, lacks=LACKS, adds=ADDS, deviations={"G3": "None is an item as any other"})


fork, spawn = _adapter("fork"), _adapter("spawn")
