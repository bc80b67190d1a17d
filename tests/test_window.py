"""The window as the pure state machine that it is, driven by Hypothesis without threads (G1 to G5, G7, G10)."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from enqueuer._plan import Plan
from enqueuer._window import NOTHING, RunState, Turn, Window


class WindowMachine(RuleBasedStateMachine):
    """Claims, puts, failures, turns and takes in any order that a run could make."""

    @initialize(size=st.integers(1, 4), barrier=st.booleans(), serial=st.booleans(), epochs=st.sampled_from([None, 1, 3]), length=st.integers(1, 5))
    def begin(self, size, barrier, serial, epochs, length) -> None:
        self.plan = Plan(barrier=barrier, serial=serial, epochs=epochs)
        self.window = Window(self.plan, size)
        assert not self.window.claimable(0, 0)  # nothing before start()
        self.window.start()
        self.size, self.length = size, length
        self.under_way, self.turn, self.expected = [], None, 0
        self.failed = []  # ranks that failed, or found the end
        self.errors = {}

    @rule()
    def claim(self) -> None:
        could = self.window.claimable(self.window.rank, 0)
        claim = self.window.claim(0)
        assert could == (claim is not None)
        if isinstance(claim, Turn):
            assert self.turn is None
            assert claim.rank == self.window.end
            if self.plan.barrier:
                assert self.window.rank == claim.rank  # G7: everything was taken
                assert not self.under_way
            assert self.window.under_way[claim.rank] == 0
            self.turn = claim
        elif claim is not None:
            if self.plan.serial:
                assert not self.under_way
            assert claim < self.window.rank + self.size  # G4
            assert not self.failed or claim < min(self.failed)
            self.under_way.append(claim)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), none=st.booleans())
    def put(self, data, none) -> None:
        rank = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.window.put(rank, None if none else rank)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), error=st.booleans())
    def finish(self, data, error) -> None:
        rank = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.errors[rank] = ValueError(rank) if error else None
        self.failed.append(rank)
        self.window.finish(rank, self.errors[rank])

    @precondition(lambda self: self.turn is not None)
    @rule(fails=st.booleans())
    def turned(self, fails) -> None:
        if fails:
            self.errors.setdefault(self.turn.rank, error := KeyError(self.turn.rank))
            self.failed.append(self.turn.rank)
            self.window.turned(error)
        else:
            self.window.turned(self.plan.span(self.turn.epoch, self.turn.rank, self.length))
        self.turn = None

    @rule()
    def take(self) -> None:
        rank, could = self.window.rank, self.window.takeable()
        item = self.window.take()
        assert could == (item is not NOTHING)
        if could:
            assert item in {None, rank}  # G2
            assert rank == self.expected  # G1
            assert not self.failed or rank < min(self.failed)  # G10
            self.expected += 1

    @precondition(lambda self: self.window.drained() and self.window.state is RunState.RUNNING)
    @rule()
    def conclude(self) -> None:
        error = self.window.conclude()
        first = min(self.failed, default=None)
        if first is not None and first == self.window.rank:
            assert error is self.errors[first]  # G10: the first failing rank wins
        else:
            assert error is None
            assert self.plan.epochs is not None
            assert self.window.rank == self.plan.epochs * self.length  # G5
        assert self.window.state is (RunState.ENDED if error is None else RunState.FAILED)

    @rule()
    def stop(self) -> None:
        running = self.window.state is RunState.RUNNING
        self.window.stop()
        assert self.window.ready == {}
        assert self.window.state is not RunState.RUNNING
        assert running == (self.window.state is RunState.STOPPED) or not running

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "window"):
            assert len(self.window.ready) + len(self.window.under_way) <= self.size
            assert self.window.rank <= self.window.claimed <= self.window.rank + self.size


WindowMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestWindow = WindowMachine.TestCase
