"""The ledger: who owns what, kept from the answers of the store alone, and checked at every one of them.

It is much simpler than a store, because it is told the answers: it only has to know whether each could be true. What a store changes without
saying so (expiry, drops, what is parked) the ledger does not follow; the end of the run shows it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from pynenc.core.records import (
    Amended,
    Beat,
    Change,
    ChangeKind,
    Claim,
    Claimed,
    ClaimRequest,
    Finished,
    Microseconds,
    New,
    Orders,
    Outcome,
    Recovered,
    Ref,
    Submitted,
)
from pynenc.core.status import FINAL, InvocationStatus
from pynenc.store.base import Clock
from pynenc.testing.checker import Kind, Violation
from pynenc.testing.simulation.schedule import Call

S = InvocationStatus
#: What the ids begin with that the store makes by itself; whether it should, the end of the run shows.
ECHO = "echo~"


class Account:
    """What is known of one invocation for sure."""

    __slots__ = ("attempt", "former", "is_cancelled", "is_unsure", "last", "new", "outcome", "owner", "was_claimed")

    def __init__(self, new: New) -> None:
        self.new = new
        self.attempt = 0
        self.owner: str | None = None
        #: Who owned it last.
        self.former: str | None = None
        self.was_claimed = False
        self.is_cancelled = False
        #: Whether it may have ended unseen.
        self.is_unsure = False
        #: The final status of this round, and the outcome that set it.
        self.last: InvocationStatus | None = None
        self.outcome: tuple[str, Outcome] | None = None

    @property
    def may_be_gone(self) -> bool:
        """Whether a purge may have taken it: it has ended, as far as that can be known."""
        return bool(self.last is not None or self.new.expires or self.new.drop_blocked or self.is_unsure)


class Ledger:
    """Observes the calls that one store applied."""

    def __init__(self, clock: Clock) -> None:
        self.violations: list[Violation] = []
        self.accounts: dict[str, Account] = {}
        #: Ids that were used again after a purge.
        self.reborn: set[str] = set()
        self.refused_zombies = 0
        #: How many signals to each were accepted.
        self.signals: Counter[str] = Counter()
        self._clock = clock
        self._until: dict[str, Microseconds] = {}
        self._groups: dict[str, str] = {}
        self._dead: set[str] = set()
        self._held: dict[str, set[str]] = defaultdict(set)

    def observe(self, call: Call, answer: Any) -> None:
        """Check one answer."""
        if check := _CHECKS.get(call.operation):
            check(self, answer, *call.arguments)

    def declare_dead(self, group: str) -> None:
        """The death of a process became certain."""
        self._dead.add(group)

    def _report(self, kind: Kind, text: str) -> None:
        self.violations.append(Violation(kind, text))

    # -- submit ------------------------------------------------------------------------------------------------------------
    def _submitted(self, answers: Sequence[Submitted], new: Sequence[New], *_: Any) -> None:
        for row, answer in zip(new, answers, strict=True):
            if answer.id != row.id:
                self._check_holder(row, answer.id)
            elif not answer.existing:
                self._accept(row)
            elif row.id not in self.accounts:
                self._report(Kind.PHANTOM, f"{row.id} was there before anybody submitted it")

    def _accept(self, row: New) -> None:
        """A new row: nobody has this id, or what had it has ended and was purged."""
        before = self.accounts.get(row.id)
        if before is not None:
            self.reborn.add(row.id)
            if not before.may_be_gone:
                self._report(Kind.LOST, f"{row.id} had to be submitted twice")
        if row.registration_key:
            for other in self.accounts.values():
                if other.new.registration_key == row.registration_key and self._waits_for_its_claim(other):
                    self._report(Kind.UNSOUND, f"{row.id} got the registration key of {other.new.id}")
        self.accounts[row.id] = Account(row)

    @staticmethod
    def _waits_for_its_claim(account: Account) -> bool:
        is_quiet = not (account.new.expires or account.new.drop_blocked)
        return is_quiet and not account.was_claimed and account.last is None

    def _check_holder(self, row: New, holder: str) -> None:
        account = self.accounts.get(holder)
        if account is None:
            self._report(Kind.PHANTOM, f"{row.id} is answered by {holder}, which nobody submitted")
        elif account.new.registration_key != row.registration_key or account.was_claimed or account.last is not None:
            self._report(Kind.LOST, f"{row.id} is answered by {holder}, which does not hold its key")

    # -- claim -------------------------------------------------------------------------------------------------------------
    def _claimed(self, answer: Claim, request: ClaimRequest) -> None:
        if len(answer.batch) > request.limit:
            self._report(Kind.UNSOUND, f"{len(answer.batch)} were claimed instead of {request.limit}")
        for claimed in answer.batch:
            self._take(claimed, request.runner)

    def _take(self, claimed: Claimed, runner: str) -> None:
        if claimed.id.startswith(ECHO):
            self.accounts.setdefault(claimed.id, Account(New(id=claimed.id, task=claimed.task, args=claimed.args)))
        account = self.accounts.get(claimed.id)
        if account is None:
            self._report(Kind.PHANTOM, f"{claimed.id} was claimed, and nobody submitted it")
            return
        if account.owner is not None:
            self._report(Kind.ZOMBIE, f"{claimed.id} was given to {runner} while {account.owner} owns it")
        if account.last is not None:
            self._report(Kind.DOUBLE_FINAL, f"{claimed.id} was claimed after it had ended as {account.last}")
        if claimed.attempt <= account.attempt:
            self._report(Kind.ZOMBIE, f"{claimed.id}: attempt {claimed.attempt} was claimed after {account.attempt}")
        self._check_limit(account.new)
        account.attempt, account.owner, account.was_claimed = claimed.attempt, runner, True
        if account.new.running_key:
            self._held[account.new.running_key].add(claimed.id)

    def _check_limit(self, new: New) -> None:
        held = self._held[new.running_key] - {new.id} if new.running_key else ()
        if new.running_key and len(held) >= new.running_limit:
            names = ", ".join(sorted(held))
            self._report(Kind.OVER_LIMIT, f"{new.id} was claimed while {names} hold(s) {new.running_key}")

    # -- the end of an attempt ---------------------------------------------------------------------------------------------
    def _finished(
        self, answer: Finished, runner: str, outcomes: Sequence[Outcome], request: ClaimRequest | None = None
    ) -> None:
        names = [outcome.id for outcome in outcomes]
        for outcome in outcomes:
            account = self.accounts.get(outcome.id)
            is_owner = self._is_owner(runner, outcome.id, outcome.attempt)
            # The answer names invocations; of two attempts of one only the later can be its owner's.
            refused = answer.lost.count(outcome.id)
            if refused == names.count(outcome.id) or (refused and not is_owner):
                self.refused_zombies += not is_owner
                if is_owner:
                    text = f"attempt {outcome.attempt} of {outcome.id} was refused to its owner {runner}"
                    self._report(Kind.LOST, text)
            elif account is None:
                self._report(Kind.PHANTOM, f"{outcome.id} ended, and nobody submitted it")
            elif is_owner:
                self._end(account, runner, outcome)
            elif not self._is_known(account, runner, outcome):
                owner = account.last or account.owner
                self._report(
                    Kind.ZOMBIE, f"attempt {outcome.attempt} of {outcome.id} by {runner} was accepted; it is of {owner}"
                )
        if request is not None:
            self._claimed(answer.claim, request)

    @staticmethod
    def _is_known(account: Account, runner: str, outcome: Outcome) -> bool:
        """Whether it says what is recorded: by itself, or by the request to cancel that ended this attempt."""
        if outcome.status is not S.CANCELLED or account.outcome:
            return account.outcome == (runner, outcome)
        is_cancelled = account.last is S.CANCELLED or account.is_unsure
        return is_cancelled and (account.former, account.attempt) == (runner, outcome.attempt)

    def _end(self, account: Account, runner: str, outcome: Outcome) -> None:
        self._free(account)
        if outcome.status in FINAL:
            account.last, account.outcome = outcome.status, (runner, outcome)
        elif account.is_cancelled:
            account.last = S.CANCELLED

    def _free(self, account: Account) -> None:
        account.former = account.owner or account.former
        account.owner = None
        if account.new.running_key:
            self._held[account.new.running_key].discard(account.new.id)

    def _refs(self, lost: Sequence[str], runner: str, refs: Sequence[Ref], *_: Any) -> None:
        # The answer names invocations: one of several attempts of one may be its owner's.
        others = Counter(ref.id for ref in refs if not self._is_owner(runner, ref.id, ref.attempt))
        if Counter(lost) != others:
            self._report(Kind.ZOMBIE, f"start of {refs} by {runner}: {lost} refused, not its own are {list(others)}")

    def _is_owner(self, runner: str, name: str, attempt: int) -> bool:
        account = self.accounts.get(name)
        return account is not None and (account.owner, account.attempt) == (runner, attempt)

    def _owned(self, answer: Sequence[Claimed], runner: str) -> None:
        mine = {(name, account.attempt) for name, account in self.accounts.items() if account.owner == runner}
        told = {(claimed.id, claimed.attempt) for claimed in answer}
        if mine != told:
            self._report(Kind.UNSOUND, f"{runner} owns {sorted(mine)}, and is told {sorted(told)}")

    # -- runners -----------------------------------------------------------------------------------------------------------
    def _beaten(self, answers: Sequence[Orders], beats: Sequence[Beat]) -> None:
        for beat, orders in zip(beats, answers, strict=True):
            if orders.alive:
                self._until[beat.id] = self._clock.lease() + beat.lease
                self._groups[beat.id] = beat.group

    def _recovered(self, answer: Sequence[Recovered], *_: Any) -> None:
        for item in answer:
            account = self.accounts[item.id]
            is_over = self._until.get(item.runner, 0) <= self._clock.lease()
            if not is_over and self._groups.get(item.runner) not in self._dead:
                self._report(Kind.UNSOUND, f"{item.id} was taken from {item.runner}, which lives")
            if account.owner != item.runner:
                self._report(Kind.ZOMBIE, f"{item.id} was taken from {item.runner}, but {account.owner} owns it")
            self._take_back(account)
            if item.status in FINAL:
                account.last = item.status

    def _retired(self, count: int, runners: Sequence[str]) -> None:
        mine = [account for account in self.accounts.values() if account.owner in runners]
        if len(mine) != count:
            names = sorted(account.new.id for account in mine)
            self._report(Kind.UNSOUND, f"{count} went back from {', '.join(runners)}, which owned {names}")
        for account in mine:
            self._take_back(account)

    def _take_back(self, account: Account) -> None:
        """Whether a requested cancellation outlives its attempt is open."""
        self._free(account)
        account.is_unsure = account.is_unsure or account.is_cancelled
        account.is_cancelled = False

    # -- people ------------------------------------------------------------------------------------------------------------
    def _amended(self, answers: Sequence[Amended], _ids: Sequence[str], change: Change) -> None:
        for answer in answers:
            account = self.accounts.get(answer.id)
            if not answer.accepted or account is None:
                continue
            if change.kind is ChangeKind.SIGNAL:
                self.signals[answer.id] += 1
            elif change.kind is ChangeKind.CANCEL:
                if account.owner is None:
                    account.last = S.CANCELLED
                account.is_cancelled = account.owner is not None
            elif change.kind is ChangeKind.REQUEUE:
                account.was_claimed = account.was_claimed or account.last is not None  # its registration is over
                account.last = account.outcome = None
                account.is_cancelled = False


_CHECKS: dict[str, Any] = {
    "submit": Ledger._submitted,
    "claim": Ledger._claimed,
    "finish": Ledger._finished,
    "start": Ledger._refs,
    "owned": Ledger._owned,
    "heartbeat": Ledger._beaten,
    "recover": Ledger._recovered,
    "retire": Ledger._retired,
    "amend": Ledger._amended,
}
