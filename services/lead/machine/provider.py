"""Tasks that wait for the model's provider: every worker of their role asks one that is held."""

from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.draft import Draft
from services.lead.machine.state import RunState
from services.lead.machine.task import Task, WaitingFor
from services.lead.machine.wanted import placements


def held(draft: Draft, happening: h.ProvidersHeld) -> None:
    """Providers ask to wait, or do so no more. Tasks that waited for one say so again, or wait for a slot."""
    if happening.holds == draft.run.core.holds:
        return
    draft.emit(r.ProvidersHeld(happening.holds))
    if draft.run.core.state is RunState.RUNNING:
        for task in draft.run.ready:
            if task.waiting_for is WaitingFor.PROVIDER:
                _tell_if_changed(draft, task)


def tell_who_waits(draft: Draft) -> None:
    """Tasks whose turn it is say what they wait for, where that is a provider."""
    if draft.run.core.holds and draft.run.core.state is RunState.RUNNING:
        for placement in placements(draft.run):
            task = draft.run.tasks.get(placement.task_id)
            if task and task.waiting_for is WaitingFor.SLOT:
                _tell_if_changed(draft, task)


def _tell_if_changed(draft: Draft, task: Task) -> None:
    hold = draft.run.hold_on(task)
    waiting = WaitingFor.PROVIDER if hold else WaitingFor.SLOT
    if (waiting, hold.until if hold else None) != (task.waiting_for, task.retry_time):
        draft.tell_ready(task)
