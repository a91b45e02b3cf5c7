"""How a case measures: contestants in alternating order, several rounds, and bars that are ratios within a round.

A machine is never quiet, and two figures taken at different times say little about each other. So all contestants of a
case take their turn in each round, every other round in reverse order, and what is compared is the *ratio within a
round*; its median over the rounds is what counts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

#: The unit of ratios.
TIMES = "\N{MULTIPLICATION SIGN}"
#: What one turn of a contestant gives: a figure, or several by name.
Turn = Callable[[], float | Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The figures of one contestant over all rounds."""

    median: float
    low: float
    high: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        return cls(statistics.median(samples), min(samples), max(samples), tuple(samples))


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach, and what we aim at.

    ``figure`` names the contestant that is judged; ``measured`` is its own figure or a ratio, in ``unit``. Without a ``bar`` there is only an aim.
    """

    what: str
    figure: str
    measured: float
    bar: float | None
    aim: float | None = None
    unit: str = ""
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        if self.bar is None:
            return True
        return self.measured <= self.bar if self.at_most else self.measured >= self.bar

    @property
    def is_aim_met(self) -> bool | None:
        if self.aim is None:
            return None
        return self.measured <= self.aim if self.at_most else self.measured >= self.aim

    @property
    def factor(self) -> float | None:
        """How many times better than the bar."""
        if self.bar is None:
            return None
        pair = (self.bar, self.measured) if self.at_most else (self.measured, self.bar)
        return pair[0] / max(pair[1], 1e-9)


@dataclass(slots=True)
class Checked:
    """What was verified: how many calls, how many of them had no or a wrong result, how many ran more than once."""

    calls: int = 0
    lost: int = 0
    duplicates: int = 0

    def add(self, calls: int, lost: int = 0, duplicates: int = 0) -> None:
        self.calls += calls
        self.lost += lost
        self.duplicates += duplicates


@dataclass(slots=True)
class Report:
    """What a case found."""

    title: str
    unit: str
    settings: str
    figures: dict[str, Spread]
    bars: list[Bar]
    checked: Checked = field(default_factory=Checked)
    notes: list[str] = field(default_factory=list)


class Contest:
    """The figures of all contestants, round by round."""

    def __init__(self, samples: Mapping[str, list[float]]) -> None:
        self.samples = samples

    @property
    def figures(self) -> dict[str, Spread]:
        return {name: Spread.of(samples) for name, samples in self.samples.items()}

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self, name: str, other: str) -> float:
        """The median of the ratios within a round; of the first rounds, where the other was measured in no more."""
        return statistics.median(one / two for one, two in zip(self.samples[name], self.samples[other], strict=False))

    def add_best(self, label: str, names: Sequence[str]) -> None:
        """Add the highest figure of each round among contestants, as one more to compare with."""
        found = [self.samples[name] for name in names if name in self.samples]
        if found:
            rounds = range(max(map(len, found)))
            self.samples[label] = [max(each[number] for each in found if number < len(each)) for number in rounds]

    def at_least(
        self, name: str, bar: float | None, aim: float | None = None, *, beside: str | None = None, unit: str = ""
    ) -> list[Bar]:
        """A bar for a figure itself, or for its ratio to another one; none when that was not measured."""
        return self._bar(name, bar, aim, beside, unit, at_most=False)

    def at_most(
        self, name: str, bar: float | None, aim: float | None = None, *, beside: str | None = None, unit: str = ""
    ) -> list[Bar]:
        """The same where less is better."""
        return self._bar(name, bar, aim, beside, unit, at_most=True)

    def _bar(
        self, name: str, bar: float | None, aim: float | None, beside: str | None, unit: str, *, at_most: bool
    ) -> list[Bar]:
        if name not in self.samples or (beside is not None and beside not in self.samples):
            return []
        measured = self.median(name) if beside is None else self.ratio(name, beside)
        what = name if beside is None else f"{name} ÷ {beside}"
        return [Bar(what, name, measured, bar, aim, unit if beside is None else TIMES, at_most)]


class Bench:
    """What a case gets: how large and how often.

    :param quick: sizes that show that it works, not what it can do.
    """

    def __init__(self, *, rounds: int, quick: bool) -> None:
        self.rounds = rounds
        self.quick = quick

    def size(self, full: int, quick: int) -> int:
        """How many of something."""
        return quick if self.quick else full

    def contest(
        self, contestants: Mapping[str, Turn], *, rounds: int | None = None, once: Collection[str] = ()
    ) -> Contest:
        """Let all take their turn in each round, every other round in reverse order.

        :param once: contestants that are so slow that they take part in the first round only.
        """
        samples: dict[str, list[float]] = {}
        names = list(contestants)
        for number in range(rounds or self.rounds):
            present = [name for name in names if number == 0 or name not in once]
            for name in present if number % 2 == 0 else reversed(present):
                found = contestants[name]()
                print(".", end="", file=sys.stderr, flush=True)
                figures = found if isinstance(found, Mapping) else {"": found}
                for label, value in figures.items():
                    samples.setdefault(f"{name} {label}".strip(), []).append(value)
        ordered = {key: samples[key] for name in names for key in samples if key == name or key.startswith(f"{name} ")}
        return Contest(ordered)
