"""Between the API's messages and the worker's words. Nothing is decided here."""

from services.workers.translation.documents import write_changes, write_report
from services.workers.translation.notices import write_batch, write_pause
from services.workers.translation.plan import write_plan
from services.workers.translation.request import read_cancel, read_request
from services.workers.translation.result import write_result

__all__ = [
    "read_cancel",
    "read_request",
    "write_batch",
    "write_changes",
    "write_pause",
    "write_plan",
    "write_report",
    "write_result",
]
