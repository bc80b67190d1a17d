"""Sequences without annotations, as programs that were written for Keras have them. Checked by mypy and pyright, never run."""

# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from __future__ import annotations

from enqueuer import OrderedEnqueuer


class Base:
    """What `keras.utils.Sequence` looks like to a type checker: a base class that raises."""

    def __getitem__(self, index):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError

    def on_epoch_end(self):
        """Do nothing."""


class KerasLike(Base):
    def __init__(self, files, batch_size):
        self.files, self.batch_size = files, batch_size

    def __len__(self):
        return len(self.files) // self.batch_size

    def __getitem__(self, index):
        return self.files[index * self.batch_size : (index + 1) * self.batch_size]


def old_programs_are_accepted():
    enqueuer = OrderedEnqueuer(KerasLike(["a", "b"], 1), False, True)
    enqueuer.start(2, 10)
    for row in enqueuer.get():
        print(row)
    enqueuer.close()


def old_programs_are_accepted_where_they_are_checked() -> None:
    for row in OrderedEnqueuer(KerasLike(["a", "b"], 1)).get():
        print(row)
