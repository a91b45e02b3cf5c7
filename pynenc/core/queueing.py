"""Which queues a claim takes from, and how much of each."""

from __future__ import annotations

import msgspec


class QueuePolicy(msgspec.Struct, frozen=True):
    """``ordered``: the first queue with work is served first. ``round_robin``: each in turn. ``weighted``: in proportion to ``weights``."""

    kind: str = "ordered"
    weights: tuple[float, ...] = ()


def shares(policy: QueuePolicy, queues: tuple[str, ...], limit: int, turn: int) -> tuple[tuple[str, int], ...]:
    """The queues in the order to look at with the most to take from each; empty when all queues count as one.

    Round-robin begins at another queue each turn and splits the limit evenly; weighted splits it by weight and gives the first place by smooth
    weighted rotation over turns, so small limits are fair over time. What a queue leaves unused is taken at the next turn.
    """
    if not queues or policy.kind == "ordered" or len(queues) == 1:
        return tuple((queue, limit) for queue in queues)
    weights = policy.weights if policy.kind == "weighted" and policy.weights else (1.0,) * len(queues)
    total = sum(weights)
    order = _rotation(weights, total, turn)
    return tuple((queues[i], max(1, round(limit * weights[i] / total))) for i in order)


def _rotation(weights: tuple[float, ...], total: float, turn: int) -> list[int]:
    """Indices with the one whose turn it is first: position ``turn`` of a low-discrepancy walk through the weights."""
    point = (
        (turn * 0.6180339887498949) % 1.0 * total if len(set(weights)) > 1 else float(turn % len(weights)) * weights[0]
    )
    first, reached = 0, 0.0
    for index, weight in enumerate(weights):
        reached += weight
        first = index
        if point < reached:
            break
    return [*range(first, len(weights)), *range(first)]
