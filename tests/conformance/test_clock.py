"""The virtual clock is a clock, and moves only when told."""

from __future__ import annotations

import pytest

from pynenc.store.base import Clock
from pynenc.testing.clock import SECOND, VirtualClock


def test_time_stands_still() -> None:
    clock = VirtualClock(5 * SECOND)
    assert isinstance(clock, Clock)
    assert (clock.now(), clock.lease(), clock.boot_id()) == (5 * SECOND, clock.lease(), clock.boot_id())


def test_advance_moves_both_times() -> None:
    clock = VirtualClock()
    now, lease, boot = clock.now(), clock.lease(), clock.boot_id()
    clock.advance(1.5)
    assert (clock.now() - now, clock.lease() - lease, clock.boot_id()) == (1.5 * SECOND, 1.5 * SECOND, boot)


def test_advance_goes_forward_only() -> None:
    clock = VirtualClock()
    with pytest.raises(ValueError, match="jump"):
        clock.advance(-1)


def test_jump_moves_the_wall_clock_only() -> None:
    clock = VirtualClock()
    now, lease, boot = clock.now(), clock.lease(), clock.boot_id()
    clock.jump(-3600)
    assert (clock.now() - now, clock.lease(), clock.boot_id()) == (-3600 * SECOND, lease, boot)


def test_reboot_begins_the_lease_time_anew() -> None:
    clock = VirtualClock()
    now, lease, boot = clock.now(), clock.lease(), clock.boot_id()
    clock.reboot(10)
    assert (clock.now() - now, clock.lease()) == (10 * SECOND, 10 * SECOND)
    assert clock.lease() < lease
    assert clock.boot_id() != boot
