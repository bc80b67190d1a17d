"""What is timed: this project and its peers, read in the same way. Runs in the environment of one of them; `peers.py` says what, and when.

python tests/benchmarks/readers.py NAME     then a row in JSON for each line of the input; the answer is what it took, in JSON
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ENDLESS = 10**6
"""Items of a sequence that is not read to its end."""

Reader = Callable[["Items", dict[str, Any]], Any]


def spin(milliseconds: float) -> None:
    """Take so much time of a processor, with the GIL."""
    until = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < until:
        pass


class Items:
    """A sequence. Importable, so that any process can have it."""

    def __init__(self, kind: str, length: int) -> None:
        self.kind, self.length = kind, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if index >= self.length:  # some peers ask whether there is more
            raise IndexError(index)
        if self.kind == "tiny":
            return (index, 0)
        if self.kind == "tensor":
            import torch

            return torch.full((1 << 17,), float(index), dtype=torch.float64)
        if self.kind.startswith("cpu"):
            spin(float(self.kind[3:]))
            return (index, 0)
        return np.full(int(self.kind) // 8, index, np.float64)


class Hooked(Items):
    """The same, with a hook between epochs."""

    def on_epoch_end(self) -> None:
        """Nothing, but it has to be called."""
        self.kind = str(self.kind)


@contextmanager
def ours(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    from enqueuer import OrderedEnqueuer

    enqueuer = OrderedEnqueuer(items, use_multiprocessing=row["mode"] == "process", context="fork")
    enqueuer.start(row["workers"], row["queue"])
    yield enqueuer.get()
    enqueuer.stop()


@contextmanager
def whole(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    """The same without the ends of epochs: what they cost is the difference."""
    with ours(Items(items.kind, ENDLESS), row) as stream:
        yield stream


@contextmanager
def limit(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    """Computing an item, and one copy of it: what no transport between processes can be much cheaper than."""
    yield map(np.copy, map(items.__getitem__, range(ENDLESS)))


@contextmanager
def queued(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    """A bare `queue.Queue`: what no hand-over between threads can be much cheaper than."""
    import queue
    import threading

    channel: queue.Queue[Any] = queue.Queue(row["queue"])
    over = threading.Event()

    def produce(first: int) -> None:
        for index in range(first, ENDLESS, row["workers"]):
            channel.put(items[index])
            if over.is_set():
                return

    threads = [threading.Thread(target=produce, args=(first,), daemon=True) for first in range(row["workers"])]
    for thread in threads:
        thread.start()
    yield iter(channel.get, None)
    over.set()
    while any(thread.is_alive() for thread in threads):
        while not channel.empty():
            channel.get()


def _keras(enqueuer: Any, *start: Any) -> Iterator[Iterator[Any]]:
    enqueuer.start(*start)
    yield enqueuer.get()
    enqueuer.stop()


@contextmanager
def tfk(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    from keras.utils import OrderedEnqueuer, Sequence

    sequence = type("Adapted", (type(items), Sequence), {})(items.kind, items.length)
    globals()["Adapted"] = type(sequence)
    yield from _keras(OrderedEnqueuer(sequence, use_multiprocessing=row["mode"] == "process"), row["workers"], row["queue"])


@contextmanager
def k3(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer
    from keras.utils import PyDataset

    def init(self: Any, kind: str, length: int) -> None:
        PyDataset.__init__(self)
        Items.__init__(self, kind, length)

    dataset = type("Adapted", (type(items), PyDataset), {"__init__": init})(items.kind, items.length)
    globals()["Adapted"] = type(dataset)
    made = OrderedEnqueuer(dataset, row["workers"], use_multiprocessing=row["mode"] == "process", max_queue_size=row["queue"])
    if row["kind"] != "epochs":
        yield from _keras(made)
        return

    def epochs() -> Iterator[Any]:
        """As its trainer does: a run is an epoch."""
        while True:
            made.start()
            yield from islice(made.get(), len(items))
            made.stop()
            dataset.on_epoch_end()

    stream = epochs()
    yield stream
    stream.close()  # type: ignore[attr-defined]
    made.stop()


def _again(source: Any) -> Iterator[Any]:
    """Read it again and again."""
    while True:
        yield from source


def _identity(item: Any) -> Any:
    return item


@contextmanager
def torch(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        items,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=row["workers"],
        prefetch_factor=max(1, row["queue"] // row["workers"]),
        collate_fn=_identity,
        persistent_workers=row["kind"] == "epochs",
    )

    stream = _again(loader) if row["kind"] == "epochs" else iter(loader)
    yield stream
    del stream, loader
    gc.collect()


@contextmanager
def nodes(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    from torchdata.nodes import IterableWrapper, Loader, ParallelMapper

    method = row["mode"]
    mapped: Any = ParallelMapper(
        IterableWrapper(range(len(items))),
        items.__getitem__,
        num_workers=row["workers"],
        in_order=True,
        method=method,
        multiprocessing_context="fork" if method == "process" else None,
        prebatch=None,
    )
    loader: Any = Loader(mapped)

    yield _again(loader)
    del loader
    mapped.reset()
    del mapped
    gc.collect()


@contextmanager
def grain(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    import grain as library

    dataset = library.MapDataset.range(len(items)).map(items.__getitem__)
    if row["mode"] == "thread":
        source = dataset.repeat().to_iter_dataset(library.ReadOptions(num_threads=row["workers"], prefetch_buffer_size=row["queue"]))
    else:
        options = library.MultiprocessingOptions(num_workers=row["workers"], per_worker_buffer_size=max(1, row["queue"] // row["workers"]))
        source = dataset.to_iter_dataset(library.ReadOptions(num_threads=0, prefetch_buffer_size=0)).mp_prefetch(options)

    stream = _again(source)
    yield stream
    stream.close()  # type: ignore[attr-defined]
    gc.collect()


@contextmanager
def spdl(items: Items, row: dict[str, Any]) -> Iterator[Iterator[Any]]:
    from concurrent.futures import ProcessPoolExecutor

    from spdl.pipeline import PipelineBuilder

    pool = ProcessPoolExecutor(row["workers"], multiprocessing.get_context("fork")) if row["mode"] == "process" else None

    def once() -> Any:
        builder: Any = PipelineBuilder().add_source(range(len(items)))
        builder = builder.pipe(items.__getitem__, concurrency=row["workers"], executor=pool, output_order="input").add_sink(row["queue"])
        return builder.build(num_threads=row["workers"])

    def epochs() -> Iterator[Any]:
        while True:
            pipeline = once()
            with pipeline.auto_stop():
                yield from pipeline

    stream = epochs()
    yield stream
    stream.close()  # type: ignore[attr-defined]
    if pool is not None:
        pool.shutdown(wait=True, cancel_futures=True)


READERS: dict[str, Callable[[Items, dict[str, Any]], Any]] = {
    "ours": ours,
    "whole": whole,
    "limit": limit,
    "queue": queued,
    "tfk": tfk,
    "k3": k3,
    "torch": torch,
    "nodes": nodes,
    "grain": grain,
    "spdl": spdl,
}


def pss() -> float:
    """Return how many bytes this process and those it has started have in memory, what they share counted once."""
    processes = [os.getpid(), *(int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split())]
    lines = [line.split() for pid in processes for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(size) for name, size, *_ in lines if name == "Pss:") * 1024.0


def memory(name: str, row: dict[str, Any]) -> dict[str, float]:
    """Read a row; return the most memory that it took, in items, above what the same takes with tiny ones; and by how much that grew."""

    def reads(item: str) -> list[float]:
        found: list[float] = []
        with READERS[name](Items(item, ENDLESS), row) as stream:
            for number, _item in enumerate(islice(stream, row["items"])):
                if number % row["each"] == 0:
                    found.append(pss())
        return found

    before, sizes = max(reads("tiny")), reads(row["item"])
    size, tenth = float(row["item"]), len(sizes) // 10
    return {"us": (max(sizes) - before) / size, "grown": (max(sizes[-tenth:]) - max(sizes[tenth : 2 * tenth])) / size}


def measured(name: str, row: dict[str, Any]) -> dict[str, float]:
    """Read a row; return microseconds an item, or for a start or a stop."""
    kind = row["kind"]
    if kind == "memory":
        return memory(name, row)
    length = row.get("epoch", ENDLESS)
    items = (Hooked if row.get("hook") else Items)(row["item"], length)
    begun = time.perf_counter()
    with READERS[name](items, row) as stream:
        next(stream)
        started = time.perf_counter()
        if kind == "start":
            return {"us": (started - begun) * 1e6}
        if kind == "stop":
            time.sleep(row["fill"])  # the queue is full; how full, nobody tells in the same way
        else:
            for _item in islice(stream, 3 * row["queue"]):
                pass
        _item = None
        busy = row.get("busy", 0.0)
        before = time.perf_counter()
        for _item in islice(stream, row["items"]):
            if busy:
                spin(busy)
        stopping = time.perf_counter()
        _item = None
    if kind == "stop":
        return {"us": (time.perf_counter() - stopping) * 1e6}
    elapsed = stopping - before
    return {"us": elapsed / row["items"] * 1e6 / (row["workers"] if name == "limit" else 1)}


def main() -> None:
    """Answer, row by row."""
    name = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print
    sys.path.insert(0, str(Path(__file__).parent))
    module = __import__("readers")  # so that items are of a module that worker processes can import
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            told = module.measured(name, json.loads(line))
        except Exception as error:  # told to the one who asked
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
