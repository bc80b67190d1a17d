"""What is judged: a factory of enqueuers, and what its author says of it. Nothing about a subject is found out by asking for its type."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ..checks import CAPABILITIES, CHECKS, Check
from ..subject import LIMIT, PROCESSES, REFERENCE, Factory
from ..twins import TWINS

__all__ = ["BY_NAME", "OWN", "Adapter", "AdapterError", "load"]


class AdapterError(ValueError):
    """An adapter that can't be had, or says what can't be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A subject, as it is put to the test.

    Attributes:
        factory: How its enqueuers are made. Where the subject's own classes are called otherwise, an adapter wraps them in a few lines.
        lacks: Capability -> why the subject has not got it. Checks that need it do not apply, with that reason. The names are those of
            `enqueuer.testing.checks.CAPABILITIES`. "processes" is lacked by whoever has no `apart` in its factory.
        adds: Check, or guarantee -> what the adapter does there in place of the subject, which so is not judged: the check does not apply.
        deviations: Check, or guarantee -> why it is not kept on purpose. Such a failure is expected; if it passes, that is told.
    """

    factory: Factory
    lacks: Mapping[str, str] = field(default_factory=dict[str, str])
    adds: Mapping[str, str] = field(default_factory=dict[str, str])
    deviations: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        unknown = [name for name in self.lacks if name not in CAPABILITIES]
        if unknown:
            raise AdapterError(f"{self.factory.name} lacks {unknown[0]!r}, which is no capability: there are {', '.join(CAPABILITIES)}")
        known = {check.guarantee for check in CHECKS} | {short(check) for check in CHECKS}
        for verb, told in (("adds", self.adds), ("deviates from", self.deviations)):
            unknown = [name for name in told if name not in known]
            if unknown:
                raise AdapterError(f"{self.factory.name} {verb} {unknown[0]!r}, which is neither a guarantee nor a check")

    def inapplicable(self, check: Check) -> str:
        """Return why a check does not apply, "" if it does."""
        for need in sorted(check.needs):
            if need in self.lacks:
                return f"it lacks {CAPABILITIES[need]}: {self.lacks[need]}"
        if added := _told(self.adds, check):
            return f"the adapter would be judged: {added}"
        return "" if check.applies(self.factory) else f"it lacks {CAPABILITIES['processes']}"

    def expected(self, check: Check) -> str:
        """Return why a check is expected to fail, "" if it is not."""
        return _told(self.deviations, check)


def _told(of: Mapping[str, str], check: Check) -> str:
    """Return what is told of a check, or else of its guarantee."""
    return of.get(short(check), of.get(check.guarantee, ""))


def short(check: Check) -> str:
    """Return the name of a check as users write it."""
    return check.name.removeprefix("check_")


BY_NAME: Final = {short(check): check for check in CHECKS}
"""The checks. The clause that one watches stays the same, whatever it has seen to be broken."""

OWN: Final = {"threads": REFERENCE, **PROCESSES}
"""This package itself, by mode."""


def load(target: str) -> Adapter:
    """Return the adapter that is meant: a mode of this package, "twin:Name", "module:adapter" or "file.py:adapter".

    What is named may be an `Adapter`, a `Factory`, or a callable without arguments that returns one.
    """
    if target in OWN:
        return Adapter(factory=OWN[target])
    place, _, path = target.rpartition(":")
    if place == "twin":
        twins = {twin.name: twin for twin in TWINS}
        if path not in twins:
            raise AdapterError(f"{target}: there is no such twin: there are {', '.join(twins)}")
        return Adapter(factory=twins[path].factory)
    if not place or not path:
        raise AdapterError(f"{target!r} names no adapter: write package.module:adapter, file.py:adapter, or one of {', '.join(OWN)}")
    found: object = _module(place, target)
    for name in path.split("."):
        if not hasattr(found, name):
            raise AdapterError(f"{target}: {place} has no {path}")
        found = getattr(found, name)
    if not isinstance(found, (Adapter, Factory)) and callable(found):
        found = found()
    if isinstance(found, Factory):
        return Adapter(factory=found)
    if not isinstance(found, Adapter):
        raise AdapterError(f"{target} is of type {type(found).__name__}: an Adapter or a Factory is wanted, or a callable that returns one")
    return found


def _module(place: str, target: str) -> object:
    file = Path(place)
    if file.suffix != ".py":
        return importlib.import_module(place)
    if not file.is_file():
        raise AdapterError(f"{target}: there is no file {place}")
    sys.path.insert(0, str(file.resolve().parent))  # worker processes import it by its name
    return importlib.import_module(file.stem)


def limited(adapter: Adapter, limit: float) -> Factory:
    """Return its factory, with the seconds after which something that should come at once hangs, unless it says them itself."""
    return replace(adapter.factory, limit=limit) if adapter.factory.limit == LIMIT else adapter.factory
