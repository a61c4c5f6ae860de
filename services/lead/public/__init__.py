"""What the machine knows, as the public API shows it: events both ways, and runs, tasks, attempts."""

from services.lead.public.event import event_from_proto, event_to_proto, notice
from services.lead.public.resources import attempt_to_proto, run_to_proto, task_to_proto
from services.lead.public.values import (
    allowance_to_proto,
    instant,
    outcome_from_proto,
    outcome_to_proto,
    timestamp,
    usage_from_proto,
)

__all__ = [
    "allowance_to_proto",
    "attempt_to_proto",
    "event_from_proto",
    "event_to_proto",
    "instant",
    "notice",
    "outcome_from_proto",
    "outcome_to_proto",
    "run_to_proto",
    "task_to_proto",
    "timestamp",
    "usage_from_proto",
]
