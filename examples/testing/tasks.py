"""Subscriptions: something worth testing."""

from dataclasses import dataclass

from pynenc import ConcurrencyControlType, Pynenc

app = Pynenc(app_id="subscriptions")

DAY = 24 * 3600.0


class MailServerError(Exception):
    """The mail server does not answer."""


@dataclass
class Mail:
    to: str
    text: str


outbox: list[Mail] = []


@app.task(retry_for=(MailServerError,), max_retries=3, retry_delay=30)
def send(mail: Mail) -> None:
    if send.invocation.num_retries == 0 and mail.to.endswith("@slow.example"):
        raise MailServerError(mail.to)
    outbox.append(mail)


@app.task(registration_concurrency=ConcurrencyControlType.KEYS, key_arguments=("address",))
def subscribe(address: str, name: str) -> None:
    send(Mail(address, f"Welcome, {name}"))
    send.options(delay=7 * DAY)(Mail(address, f"How was the first week, {name}?"))
