"""The account, as `show` prints it."""

from google.protobuf.duration_pb2 import Duration

from codeframe.cli.account import account, cost, spent
from codeframe.v1 import budget_pb2, evidence_pb2, lead_pb2

SEEN = evidence_pb2.ModelUsage(
    model="claude-sonnet-5",
    turns=12,
    input_tokens=1_200,
    output_tokens=3_400,
    cache_write_tokens=5_600,
    cache_read_tokens=78_000,
    cost_micros=66_000,
    cost_known=True,
)
UNSEEN = evidence_pb2.ModelUsage(model="x", turns=1, input_tokens=7, output_tokens=8, incomplete=True)
LOST = budget_pb2.Charge(tokens=232_000, cost_micros=820_000, turns=1, wall_time=Duration(seconds=9))


def test_each_model_of_each_attempt_has_its_line_and_what_is_estimated_another() -> None:
    attempts = [
        lead_pb2.Attempt(task_id="api", number=1, usage=[SEEN, UNSEEN], estimated=LOST),
        lead_pb2.Attempt(number=1, usage=[UNSEEN]),
    ]
    unseen = "x                    1      7           0         0      8  cost unknown, more may be billed"
    lost = "estimated            1                                      232,000 tokens, $0.82 at most"
    assert [line.plain for line in account(attempts, [SEEN])] == [
        "  task      attempt  model            turns     in  from cache  to cache    out  cost",
        "  api             1  claude-sonnet-5     12  1,200      78,000     5,600  3,400  $0.066000",
        f"  api             1  {unseen}",
        f"  api             1  {lost}",
        f"  planning        1  {unseen}",
        "  total              claude-sonnet-5     12  1,200      78,000     5,600  3,400  $0.066000",
    ]
    assert list(account([], [])) == []


def test_a_price_that_is_known_of_some_calls_only_is_a_lower_bound() -> None:
    partly = evidence_pb2.ModelUsage(model="x", cost_micros=500_000)
    assert cost(partly) == "cost unknown (over $0.50)"


def test_what_is_spent_reserved_and_estimated_is_told() -> None:
    run = lead_pb2.Run(
        budget=budget_pb2.Budget(cost_micros=5_000_000, turns=40),
        charged=budget_pb2.Charge(tokens=9, cost_micros=1_250_000, turns=13),
        reserved=budget_pb2.Charge(cost_micros=2_000_000, turns=4),
        estimated=LOST,
    )
    assert [line.plain for line in spent(run)] == [
        "  budget     $1.25 of $5.00, 13 of 40 turns",
        "  reserved   $2.00, 4 turns",
        "  estimated  232,000 tokens, $0.82, 1 turns, 9 s of attempts: what no worker could tell",
    ]
    assert list(spent(lead_pb2.Run(charged=run.charged))) == []
