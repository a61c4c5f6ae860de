"""How an attempt ended, and what that means for its task (docs/state-machine.md has the table)."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


class Outcome(enum.Enum):
    """The names are those of the proto's enum. The last three only the lead tells."""

    SUCCEEDED = "succeeded"
    VERIFICATION_FAILED = "verification_failed"
    BAD_MODEL_REPLY = "bad_model_reply"
    STUCK = "stuck"
    TIMED_OUT = "timed_out"
    INTERNAL = "internal"
    INTERRUPTED = "interrupted"
    ORPHANED = "orphaned"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    NO_TESTS = "no_tests"
    SETUP_FAILED = "setup_failed"
    PROVIDER_REJECTED = "provider_rejected"
    REFUSED = "refused"
    LIMIT_EXCEEDED = "limit_exceeded"
    CANCELLED = "cancelled"
    DEFECT_FOUND = "defect_found"
    ALLOWANCE_SPENT = "allowance_spent"
    INTEGRATION_FAILED = "integration_failed"
    CONFLICT = "conflict"
    LOST = "lost"


class StartFrom(enum.Enum):
    """Where the next attempt starts."""

    HEAD = "head"
    OWN_COMMIT = "own commit"


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows an outcome. `cap` bounds attempts that cost nothing; None: the run's time or budget is."""

    start: StartFrom
    costs_retry: bool = False
    cap: int | None = None
    pause: timedelta = timedelta()


_RETRY = Rule(StartFrom.HEAD, costs_retry=True)
_AT_ONCE = timedelta()
_SOON = timedelta(seconds=1)

RULES: Mapping[Outcome, Rule] = {
    Outcome.VERIFICATION_FAILED: _RETRY,
    Outcome.BAD_MODEL_REPLY: _RETRY,
    Outcome.STUCK: _RETRY,
    Outcome.TIMED_OUT: _RETRY,
    Outcome.INTERNAL: Rule(StartFrom.HEAD, costs_retry=True, pause=_SOON),
    Outcome.INTEGRATION_FAILED: _RETRY,
    Outcome.CONFLICT: Rule(StartFrom.HEAD, cap=10),
    Outcome.INTERRUPTED: Rule(StartFrom.OWN_COMMIT, cap=10, pause=_SOON),
    Outcome.ORPHANED: Rule(StartFrom.OWN_COMMIT, cap=10, pause=_AT_ONCE),
    Outcome.LOST: Rule(StartFrom.OWN_COMMIT, cap=3, pause=_SOON),
    Outcome.ALLOWANCE_SPENT: Rule(StartFrom.OWN_COMMIT, cap=None),
    Outcome.PROVIDER_UNAVAILABLE: Rule(StartFrom.OWN_COMMIT, cap=None, pause=timedelta(seconds=30)),
}
"""Outcomes that are not here end their task: SUCCEEDED in the merge queue, the others as FAILED."""

LONGEST_PAUSE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Again:
    """The task is attempted again, after a pause."""

    start: StartFrom
    costs_retry: bool
    pause: timedelta


def what_follows(outcome: Outcome, times: int, retries_spent: int, retries: int) -> Again | None:
    """Whether a task is attempted again after an outcome, and how; None where it has FAILED.

    `times` counts how often the task has ended so, this time included. The pause doubles
    with each, up to a minute.
    """
    rule = RULES.get(outcome)
    if rule is None:
        return None
    if rule.costs_retry and retries_spent >= retries:
        return None
    if rule.cap is not None and times > rule.cap:
        return None
    pause = min(rule.pause * 2 ** min(times - 1, 10), LONGEST_PAUSE)
    return Again(rule.start, rule.costs_retry, pause)
