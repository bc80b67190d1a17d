"""What is judged: a factory of enqueuers, and what its author says of it. Nothing about a subject is found out by asking for its type."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

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
        if not isinstance(cast("object", self.factory), Factory):
            raise AdapterError(f"the factory of an adapter is a Factory(name=..., ordered=...), not {self.factory!r}")
        for verb, told in (("lacks", self.lacks), ("adds", self.adds), ("deviates from", self.deviations)):
            if not _reasons(told):
                raise AdapterError(f"what {self.factory.name} {verb} is a mapping of names to reasons, none of them empty, not {told!r}")
        for name in self.lacks:
            if name not in CAPABILITIES:
                raise AdapterError(f"{self.factory.name} lacks {name!r}, which is no capability: there are {', '.join(CAPABILITIES)}")
        for verb, told in (("adds", self.adds), ("deviates from", self.deviations)):
            for name in told:
                if named(name) != name:
                    raise AdapterError(f"{self.factory.name} {verb} {name!r}, which is neither a guarantee nor a check{_like(name)}")

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


def _reasons(told: object) -> bool:
    """Whether it is a mapping, with a reason for each name."""
    return isinstance(told, Mapping) and all(isinstance(why, str) and why for why in cast("Mapping[object, object]", told).values())


def _plain(text: str) -> str:
    return text.strip().lower().replace(" ", "_").removeprefix("check_")


def named(text: str) -> str:
    """Return the guarantee or check that is meant, however it is written; "" if there is none."""
    check = _plain(text)
    return check if check in BY_NAME else text.strip().upper() if text.strip().upper() in GUARANTEES else ""


def _like(text: str) -> str:
    """Return what may have been meant, to be appended."""
    close = named(text) or ", ".join(difflib.get_close_matches(_plain(text), BY_NAME, 2))
    return f": did you mean {close}?" if close else ""


def unknown(text: str) -> AdapterError:
    """Return the error that tells that there is no such thing."""
    return AdapterError(f"there is no guarantee and no check {text!r}{_like(text)}")


GUARANTEES: Final = frozenset(check.guarantee for check in CHECKS)
"""That are checked."""

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
        if not all(part.isidentifier() for part in place.split(".")):
            raise AdapterError(f"{target}: a Python file or the name of a module is wanted before the colon")
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise AdapterError(f"{target}: there is no module {error.name!r}: call from the folder that it is in, or install it") from error
    if not file.is_file():
        raise AdapterError(f"{target}: there is no file {place}")
    if not file.stem.isidentifier():
        raise AdapterError(f"{target}: worker processes import the file by its name, so that has to be an identifier: rename it")
    sys.path.insert(0, str(file.resolve().parent))
    module = importlib.import_module(file.stem)
    if Path(module.__file__ or "").resolve() != file.resolve():
        raise AdapterError(f"{target}: there is another module {file.stem!r} already, {module.__file__ or 'built in'}: rename the file")
    return module


def limited(adapter: Adapter, limit: float) -> Factory:
    """Return its factory, with the seconds after which something that should come at once hangs, unless it says them itself."""
    return replace(adapter.factory, limit=limit) if adapter.factory.limit == LIMIT else adapter.factory
