"""How an attempt ends: one outcome, and the exception that leads to it."""

import enum


class Outcome(enum.Enum):
    """How an attempt ended. The names are those of the proto's enum."""

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


class AttemptFailed(Exception):
    """Ends an attempt with an outcome other than SUCCEEDED.

    Raised anywhere below the attempt's edge, which alone catches it: work so far is
    pushed, then the outcome and the message become the result.
    """

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
