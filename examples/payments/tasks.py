"""Charge customers once, whatever fails in between."""

import os
from pathlib import Path

from bank import BankIsDownError, pay, write_receipt

from pynenc import Pynenc

app = Pynenc(app_id="payments")


@app.task(retry_for=(BankIsDownError,), max_retries=5, retry_delay=0.05)
def charge(bank: Path, order: str, cents: int) -> str:
    invocation = charge.invocation
    # The id is the same in every attempt, so the bank knows a repetition when it sees one.
    is_new = pay(bank, key=invocation.invocation_id, cents=cents)
    if order == "unlucky" and is_new:
        os._exit(1)  # the worst moment: paid, and nothing written down yet
    # The fence names this attempt, and attempts are ordered.
    write_receipt(bank, invocation.invocation_id, invocation.attempt, invocation.fence)
    return "paid" if is_new else "had been paid before"
