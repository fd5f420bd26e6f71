"""Lineage: which model taught which, and what the withdrawal of one means for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from selftrain.errors import WithdrawnError

SHOWN = 12
"""How many characters of a digest people see. Commands accept such a prefix instead of the digest."""


class Trust(StrEnum):
    """Whether a model's answers may still be used."""

    TRUSTED = "trusted"
    TAINTED = "tainted"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Descent:
    """A model's names (its identity and, if known, the sha256 of its file), and who taught it.

    `lineage` holds the identities of its teachers and of their teachers, as far as the model itself names them.
    """

    names: frozenset[str]
    lineage: tuple[str, ...] = ()


class Recall(BaseModel):
    """One line of the recall log: the model `identity` was withdrawn or restored.

    `called` is the name that the user gave. `file` is the sha256 of the model's file, empty where that is unknown.
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
        """The model's names."""
        return frozenset({self.identity, self.file} - {""})

    @property
    def text(self) -> str:
        """The line in words, for errors and reports."""
        digest = self.identity[:SHOWN]
        named = self.called if digest in self.called else f"{self.called} ({digest})"
        return f"{named}, withdrawn {self.when[:10]} by {self.who}: {self.why}"


@dataclass(frozen=True)
class Recalled:
    """The models that are withdrawn now, by each of their names, and the known teachers of each model."""

    withdrawn: Mapping[str, Recall]
    teachers: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, log: Iterable[Recall], known: Iterable[Descent] = ()) -> Recalled:
        """The state after the lines of `log`, oldest first; the last line about a model decides.

        A lineage may name a model without its teachers. The lineages of the `known` models fill such gaps.
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
        """The names of all models that `model` is known to descend from, without its own names."""
        ancestors: set[str] = set()
        waiting = [*model.lineage, *(each for name in model.names for each in self.teachers.get(name, ()))]
        while waiting:
            name = waiting.pop()
            if name not in ancestors:
                ancestors.add(name)
                waiting += self.teachers.get(name, ())
        return frozenset(ancestors) - model.names

    def trust(self, model: Descent) -> Trust:
        """Whether `model` is withdrawn, tainted (it descends from a withdrawn model), or trusted."""
        if not self.withdrawn.keys().isdisjoint(model.names):
            return Trust.WITHDRAWN
        return Trust.TRUSTED if self.withdrawn.keys().isdisjoint(self.ancestors(model)) else Trust.TAINTED

    def cause(self, model: Descent) -> Recall | None:
        """The withdrawal that makes `model` untrusted: its own, or its ancestors' first. None if trusted."""
        for names in (model.names, self.ancestors(model)):
            lines = {self.withdrawn[name] for name in names & self.withdrawn.keys()}
            if lines:
                return min(lines, key=lambda line: line.number)
        return None

    def concern(self, model: Descent, called: str) -> str | None:
        """One line on why `model`, named `called`, is not trusted; None if it is."""
        cause = self.cause(model)
        if cause is None:
            return None
        if self.trust(model) is Trust.WITHDRAWN:
            return f"{called} is withdrawn ({cause.when[:10]} by {cause.who}: {cause.why})"
        return f"{called} is tainted: it was taught by {cause.text}"

    def refuse(self, model: Descent, called: str, *, advice: str) -> None:
        """Raise WithdrawnError, with `advice` on what to do, if `model` is not trusted; the error names it `called`."""
        concern = self.concern(model, called)
        if concern is not None:
            raise WithdrawnError(f"{concern}; {advice}")
