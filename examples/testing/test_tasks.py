"""Tests of tasks: what is submitted, what happens over days, and the whole with a real runner.

pytest examples/testing
"""

import pytest
from tasks import DAY, Mail, outbox, send, subscribe

from pynenc.testing import InlineRunner


@pytest.fixture(autouse=True)
def empty_outbox():
    outbox.clear()


def test_two_clicks_are_one_subscription(pynenc_app, assert_submitted):
    assert subscribe("ada@home.example", "Ada") == subscribe("ada@home.example", "Ada")
    assert_submitted(subscribe, times=1)


def test_a_week_in_a_moment(pynenc_app):
    with InlineRunner(pynenc_app) as runner:
        subscribe("ada@home.example", "Ada")
        runner.drain()
        assert [mail.text for mail in outbox] == ["Welcome, Ada"]
        runner.advance(6 * DAY)
        assert len(outbox) == 1
        runner.advance(DAY)
        assert outbox[-1] == Mail("ada@home.example", "How was the first week, Ada?")


def test_a_slow_mail_server_is_asked_again(pynenc_app):
    with InlineRunner(pynenc_app) as runner:
        invocation = send(Mail("bob@slow.example", "Hello"))
        runner.result(invocation)
        assert invocation.num_retries == 1
        assert len(outbox) == 1


def test_the_whole_with_a_runner(pynenc_runner, assert_submitted):
    subscribe("eve@home.example", "Eve").get_result(timeout=10)
    welcome, _later = assert_submitted(send, times=2)
    welcome.get_result(timeout=10)
    assert [mail.text for mail in outbox] == ["Welcome, Eve"]
