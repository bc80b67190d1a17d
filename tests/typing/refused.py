"""What the types refuse: each comment must be needed. Checked by mypy and pyright, never run."""

from __future__ import annotations

from enqueuer import GeneratorEnqueuer, OrderedEnqueuer, Place, Plan, SequenceEnqueuer, SequenceLike


class NoLength:
    def __getitem__(self, index: int) -> int:
        return index


class NoItems:
    def __len__(self) -> int:
        return 3


class ByName:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: str) -> int:
        return 0


class Unfinished(SequenceEnqueuer[int]):
    def make_plan(self, start: Place) -> Plan:
        return Plan(start=start)


class Wrong:
    def turn(self, *, hook: bool) -> str:
        return "three"

    def item(self, worker: int, epoch: int, index: int, /) -> int:
        return index

    def close(self) -> None: ...


class WrongCompute(SequenceEnqueuer[int]):
    def make_plan(self, start: Place) -> Plan:
        return Plan(start=start)

    def make_compute(self) -> Wrong:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return Wrong()


OrderedEnqueuer(NoLength())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer(NoItems())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer(ByName())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer({1, 2})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer(iter([1, 2]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], False, False, 7)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
OrderedEnqueuer([1], seed="seven")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, context=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, context=Wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, on_worker_death="retire")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, on_worker_death=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, max_retries="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, max_retries=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
OrderedEnqueuer([1], True, False, "fork")  # type: ignore[arg-type,call-arg]  # pyright: ignore[reportCallIssue]
GeneratorEnqueuer([1], True, context=b"fork")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
GeneratorEnqueuer([1], True, on_worker_death=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
GeneratorEnqueuer(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
GeneratorEnqueuer(lambda: 3)  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]
GeneratorEnqueuer([1]).state_dict()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
SequenceEnqueuer([1])  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
Unfinished([1])  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]

enqueuer = OrderedEnqueuer([1])
enqueuer.start("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
enqueuer.get(1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
enqueuer.get(timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
enqueuer.stop(timeout=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
enqueuer.get().send(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
enqueuer.load_state_dict({"seed": "7"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
enqueuer.sequence = [2]  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
text: str = next(enqueuer.get())  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
numbers: SequenceLike[str] = [1]  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]
