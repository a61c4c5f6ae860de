"""What an attempt may spend, and what it has: asked before each call of the model."""

from dataclasses import replace

from codeframe.budget import Budget, Charge
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.work import ModelUsage


class Purse:
    """An attempt's allowance. It is passed by at most the call that is under way when it is spent."""

    def __init__(self, allowance: Budget) -> None:
        self._allowance = allowance
        self._spent = Charge()
        self._unpriced = ""

    def begin_turn(self) -> None:
        """A turn is about to be asked for. Raises AttemptFailed: ALLOWANCE_SPENT, or as `ask_again` does."""
        self._check(self._spent)
        self._spent += Charge(turns=1)

    def ask_again(self) -> None:
        """The same turn is about to be asked for once more.

        Raises AttemptFailed: ALLOWANCE_SPENT; or LIMIT_EXCEEDED where dollars are limited and a model
        replied that has no known price.
        """
        self._check(replace(self._spent, turns=0))

    def pay(self, usage: ModelUsage) -> None:
        """A call took so much."""
        self._spent += Charge(usage.tokens, usage.cost_micros)
        if not usage.cost_known:
            self._unpriced = usage.model

    def _check(self, spent: Charge) -> None:
        if self._unpriced and self._allowance.cost_micros is not None:
            raise AttemptFailed(Outcome.LIMIT_EXCEEDED, no_price(self._unpriced))
        if self._allowance.is_spent_by(spent):
            told = self._allowance.described(self._spent)
            raise AttemptFailed(Outcome.ALLOWANCE_SPENT, f"its allowance is spent: {told}")


def no_price(model: str) -> str:
    """Why a model cannot be paid for in dollars, and what to do."""
    return (
        f"the price of {model} is not known, and the budget is in dollars: name another model, or give the "
        "lead and its workers a table that has it (CODEFRAME_PRICES)"
    )
