"""The cursor alone: random programs, stopped at any write, go on as if nothing had happened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynenc.exceptions import NonDeterminismError
from pynenc.workflow.replay import Branch, Cursor, Record


def here() -> str:
    return "here:1"


SOURCE = ("app", "id", "0")

#: An operation, or a list of branches that run one step at a time in a drawn order.
operations = st.sampled_from(["step", "call", "sleep", "random", "uuid", "patched", "wait"])
programs = st.recursive(
    st.lists(operations, max_size=6),
    lambda inner: st.lists(st.one_of(operations, st.lists(inner, min_size=1, max_size=3)), max_size=6),
    max_leaves=12,
)


class Stop(BaseException):
    """The process dies."""


class World:
    """What survives a process: the records, and how often each value was made."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.made = 0


class Body:
    """One run of a program; dies at its ``deaths``-th write."""

    def __init__(self, world: World, deaths: int, draw: Any) -> None:
        self.world = world
        self.cursor = Cursor(SOURCE, world.records)
        self.left = deaths
        self.draw = draw

    def run(self, program: list[Any], branch: Branch) -> Any:
        """A generator, so that branches can take turns."""
        results: list[Any] = []
        for operation in program:
            if isinstance(operation, list):
                results.append((yield from self.gather(operation, branch)))
            else:
                results.append(self.do(operation, branch))
                yield
        return results

    def gather(self, programs: list[Any], branch: Branch) -> Any:
        bodies = [self.run(program, branch.fork()) for program in programs]
        results: list[Any] = [None] * len(bodies)
        left = list(range(len(bodies)))
        while left:
            index = left[self.draw(len(left))]
            try:
                next(bodies[index])
            except StopIteration as end:
                results[index] = end.value
                left.remove(index)
            yield
        return results

    def do(self, operation: str, branch: Branch) -> Any:
        if operation == "random":
            return self.cursor.random(branch)
        if operation == "uuid":
            return self.cursor.uuid(branch)
        if operation == "patched":
            position, is_new = self.cursor.is_patched(branch, "change")
            if position:
                self.write(position, Record("patch", "change"))
            return is_new
        if operation == "wait":
            branch.waits += 1
            if mark := self.cursor.mark(branch):
                self.write(*mark)
            return None
        position, record = self.cursor.meet(branch, operation, "name", here)
        if operation == "call":
            if record is None:
                self.write(position, Record(operation, "name"))
            return self.cursor.child_ids(position, 2)
        if record is None:
            record = Record(operation, "name", f"{position} {operation}".encode())
            self.write(position, record)
        return record.payload

    def write(self, position: str, record: Record) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stop
        self.world.records[position] = record
        self.world.made += 1
        self.cursor.add(position, record)


def finish(body: Body, program: list[Any]) -> Any:
    run = body.run(program, Branch())
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(program=programs, seed=st.randoms(use_true_random=False))
def test_stopped_anywhere_it_goes_on_as_if_nothing_had_happened(program, seed):
    whole = World()
    expected = finish(Body(whole, 0, seed.randrange), program)
    lives = World()
    for death in range(1, 1000):
        try:
            result = finish(Body(lives, 1 + death % 3, seed.randrange), program)
            break
        except Stop:
            continue
    assert result == expected
    marks = {position for position, record in lives.records.items() if record.kind == "mark"}
    assert {p: r for p, r in lives.records.items() if p not in marks} == {
        p: r for p, r in whole.records.items() if r.kind != "mark"
    }
    again = World()
    again.records = dict(lives.records)
    assert finish(Body(again, 1, seed.randrange), program) == expected  # a replay writes nothing


@settings(max_examples=200, deadline=None, derandomize=True)
@given(program=st.lists(operations, max_size=8), at=st.integers(0, 7), other=operations)
def test_another_operation_is_found(program, at, other):
    world = World()
    finish(Body(world, 0, lambda n: 0), program)
    recorded = [name for name in program if name in ("step", "call", "sleep")]
    changed = [*program[:at], other, *program[at + 1 :]]
    asked = [name for name in changed if name in ("step", "call", "sleep")]
    differs = next((i for i, (a, b) in enumerate(zip(asked, recorded, strict=False)) if a != b), None)
    if "patched" in (*program, other) or "wait" in (*program, other):
        return  # a patch may stand or be gone
    if differs is None:
        finish(Body(world, 0, lambda n: 0), changed)
        return
    with pytest.raises(NonDeterminismError) as raised:
        finish(Body(world, 0, lambda n: 0), changed)
    assert (raised.value.asked, raised.value.recorded) == (f"{asked[differs]} name", f"{recorded[differs]} name")
    assert raised.value.where == "here:1"


def test_a_gap_is_found():
    records = {"00000001": Record("step", "a"), "00000003": Record("step", "c")}
    cursor, branch = Cursor(SOURCE, records), Branch()
    cursor.meet(branch, "step", "a", here)
    with pytest.raises(NonDeterminismError, match="nothing, although later operations are"):
        cursor.meet(branch, "step", "b", here)


def test_a_patch_may_be_taken_out_again():
    records = {"00000001": Record("patch", "x"), "00000002": Record("step", "a"), "00000003": Record("patch", "y")}
    cursor, branch = Cursor(SOURCE, records), Branch()
    assert cursor.meet(branch, "step", "a", here) == ("00000002", records["00000002"])
    assert cursor.meet(branch, "step", "b", here) == ("00000004", None)


def test_what_is_derived_differs_where_it_should():
    draws = {}
    for source in (SOURCE, ("app", "id", "1"), ("app", "other", "0"), ("app2", "id", "0")):
        cursor = Cursor(source, {})
        root = Branch()
        for branch in (root, root.fork(), root.fork()):
            for number in range(3):
                draws[cursor.random(branch)] = draws[cursor.uuid(branch)] = 1
                draws[cursor.child_ids(f"{branch.path}{number:08}", 1)[0]] = 1
    assert len(draws) == 4 * 3 * 3 * 3
    assert all(0 <= value < 1 for value in draws if isinstance(value, float))


def test_replaying_is_known_for_each_branch():
    cursor = Cursor(
        SOURCE, {"00000001": Record("step"), "w00000001": Record("mark", "2"), "1/00000001": Record("step")}
    )
    root = Branch()
    assert cursor.is_replaying(root)
    cursor.meet(root, "step", "", here)
    assert cursor.is_replaying(root)
    root.waits = 2
    assert cursor.is_replaying(root), "it has created a branch"
    assert cursor.is_replaying(root.fork())
    assert not cursor.is_replaying(root)
    assert not cursor.is_replaying(root.fork())
