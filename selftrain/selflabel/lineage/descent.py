"""Lineage: which model was taught by which, and what the withdrawal of one means for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from selftrain.errors import WithdrawnError

SHOWN = 12  # characters of a digest, for people; commands take them as its prefix


class Trust(StrEnum):
    """Whether what a model says may still be used."""

    TRUSTED = "trusted"
    TAINTED = "tainted"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Descent:
    """A model by its names (its identity, and the sha256 of its file where that is known), and who taught it.

    `lineage` are the identities of its teachers and of theirs, as far as the model itself says.
    """

    names: frozenset[str]
    lineage: tuple[str, ...] = ()


class Recall(BaseModel):
    """One line of the recall log: the model `identity` was withdrawn, or restored; `called` is how the user named it.

    `file` is the sha256 of its file, empty where that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    when: str
    who: str
    action: Literal["withdraw", "restore"]
    identity: str
    file: str = ""
    called: str
    why: str

    @property
    def names(self) -> frozenset[str]:
        """What the model is known by."""
        return frozenset({self.identity, self.file} - {""})

    @property
    def text(self) -> str:
        """The line in words, for errors and reports."""
        digest = self.identity[:SHOWN]
        named = self.called if digest in self.called else f"{self.called} ({digest})"
        return f"{named}, withdrawn {self.when[:10]} by {self.who}: {self.why}"


@dataclass(frozen=True)
class Recalled:
    """What is withdrawn now, each by all its names, and who is known to have taught whom."""

    withdrawn: Mapping[str, Recall]
    teachers: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, log: Iterable[Recall], known: Iterable[Descent] = ()) -> Recalled:
        """What the lines of `log`, oldest first, come to; a model's last line holds.

        `known` models fill the gaps where another's lineage names one of them but not its teachers.
        """
        standing: dict[str, Recall] = {}
        for line in log:
            standing.pop(line.identity, None)
            if line.action == "withdraw":
                standing[line.identity] = line
        withdrawn = {name: line for line in standing.values() for name in line.names}
        teachers: dict[str, frozenset[str]] = {}
        for model in known:
            for name in model.names:
                teachers[name] = teachers.get(name, frozenset()) | frozenset(model.lineage)
        return cls(withdrawn, teachers)

    @property
    def in_force(self) -> tuple[Recall, ...]:
        """The withdrawals that hold, oldest first."""
        return tuple(sorted(set(self.withdrawn.values()), key=lambda line: line.number))

    def ancestors(self, model: Descent) -> frozenset[str]:
        """The names of every model that `model` descends from, as far as known; not its own."""
        found: set[str] = set()
        waiting = [*model.lineage, *(each for name in model.names for each in self.teachers.get(name, ()))]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.teachers.get(name, ())
        return frozenset(found) - model.names

    def trust(self, model: Descent) -> Trust:
        """Whether `model` is withdrawn, or tainted: taught, at whatever remove, by one that is."""
        if not self.withdrawn.keys().isdisjoint(model.names):
            return Trust.WITHDRAWN
        return Trust.TRUSTED if self.withdrawn.keys().isdisjoint(self.ancestors(model)) else Trust.TAINTED

    def cause(self, model: Descent) -> Recall | None:
        """The withdrawal that `model` is not to be trusted for: its own, else the first of its ancestors'."""
        for names in (model.names, self.ancestors(model)):
            lines = {self.withdrawn[name] for name in names & self.withdrawn.keys()}
            if lines:
                return min(lines, key=lambda line: line.number)
        return None

    def concern(self, model: Descent, called: str) -> str | None:
        """What is to be said of `model`, which is `called` so, in one line; None: it is trusted."""
        cause = self.cause(model)
        if cause is None:
            return None
        if self.trust(model) is Trust.WITHDRAWN:
            return f"{called} is withdrawn ({cause.when[:10]} by {cause.who}: {cause.why})"
        return f"{called} is tainted: it was taught by {cause.text}"

    def refuse(self, model: Descent, called: str, *, advice: str) -> None:
        """Raise WithdrawnError, with `advice` what to do, unless `model`, which is `called` so, is trusted."""
        concern = self.concern(model, called)
        if concern is not None:
            raise WithdrawnError(f"{concern}; {advice}")
