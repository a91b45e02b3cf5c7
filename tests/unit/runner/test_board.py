"""The shared memory between a worker process and its supervisor."""

import os

import pytest

from pynenc.runner.board import MmapBoard


@pytest.fixture
def boards():
    """The same board as both sides see it."""
    ours, fd = MmapBoard.create()
    theirs = MmapBoard(fd)
    os.close(fd)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_counts_and_the_last_move_cross(boards) -> None:
    ours, theirs = boards
    assert (ours.counts(), ours.moved()) == ((0, 0), 0.0)
    theirs.count(2, 30, 12.5)
    assert (ours.counts(), ours.moved()) == ((2, 30), 12.5)


def test_a_worker_may_have_given_back_more_than_it_finished(boards) -> None:
    ours, theirs = boards
    theirs.count(1, -3)
    assert ours.counts() == (1, 0)


def test_what_is_published_is_seen_whole(boards) -> None:
    ours, theirs = boards
    assert ours.published() == b""
    for size in (3, 70_000, 0, 5):
        theirs.publish(b"x" * size)
        assert ours.published() == b"x" * size


def test_what_is_too_large_leaves_what_was_there(boards) -> None:
    ours, theirs = boards
    theirs.publish(b"before")
    theirs.publish(b"x" * 300_000)
    assert ours.published() == b"before"


def test_a_torn_value_is_no_value(boards) -> None:
    ours, theirs = boards
    theirs.publish(b"whole")
    at = theirs._map.find(b"whole")
    theirs._map[at] = 0
    assert ours.published() is None
