"""What a part of the proof reports: violations, figures, and how to see it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pynenc.testing.checker import Kind, Violation

#: Told the part, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

Figure = int | float | str


@dataclass
class Report:
    """One part: ``seed`` is what makes it happen again; ``trace`` what led to the first violation."""

    part: str
    seed: str
    figures: dict[str, Figure] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """How many violations of each kind."""
        counts = Counter(violation.kind for violation in self.violations)
        return {kind.value: counts[kind] for kind in Kind}

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "part": self.part,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "violations": self.counts(),
            "texts": [f"{violation.kind}: {violation.text}" for violation in self.violations[:100]],
            "figures": self.figures,
        }


def quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile (nearest rank) and the maximum, in seconds."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        f"{name} p50": round(ordered[len(ordered) // 2], 3),
        f"{name} p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        f"{name} max": round(ordered[-1], 3),
    }


def silent(_part: str, _done: int, _total: int) -> None:
    """Report no progress."""
