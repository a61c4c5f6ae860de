"""What proves how an attempt ended: gathered as it goes, handed over as its result."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.workers.broadcast import Activity, Broadcast, Correction, CorrectionStatus, Notice
from services.workers.clock import Clock
from services.workers.desk import AgentRecord
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.translation import write_changes
from services.workers.work import Artifact, FileChange, MutationCheck, TaskResult, VerificationRun
from services.workers.workspace import Repository

ARTIFACT_LIMIT = 16 << 20
EARLIER_REPORTS_LIMIT = 16 << 20
LOG_LIMIT = 4 << 20
TEST_REPORT = "test-report"


@dataclass(slots=True)
class Evidence:
    """Filled in by whoever knows, whatever becomes of the attempt. `commit` is one that was pushed."""

    attempt_id: str
    start_time: datetime
    sandbox_mode: str
    model_endpoint: str = ""
    unverified: bool = False
    base_commit: str = ""
    commit: str = ""
    branch: str = ""
    commit_subject: str = ""
    files: tuple[FileChange, ...] = ()
    verifications: list[VerificationRun] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    mutation_check: MutationCheck | None = None
    record: AgentRecord | None = None
    log: "AttemptLog | None" = None

    def keep(self, name: str, media_type: str, data: bytes, *, truncated: bool = False) -> None:
        """Keep bytes as an artifact, clipped to its limit, in place of an earlier one of that name."""
        truncated = truncated or len(data) > ARTIFACT_LIMIT
        data = data[:ARTIFACT_LIMIT]
        digest = hashlib.sha256(data).hexdigest()
        self.artifacts[name] = Artifact(name, media_type, len(data), digest, truncated, data)

    def keep_report(self, data: bytes) -> None:
        """Keep the test report of the last verification; those before it, numbered, as far as there is room.

        Raises AttemptFailed (LIMIT_EXCEEDED).
        """
        if (before := self.artifacts.pop(TEST_REPORT, None)) is not None:
            self.keep(f"{TEST_REPORT}-{len(self.verifications) - 1}", before.media_type, before.data)
        left = EARLIER_REPORTS_LIMIT
        for number in range(len(self.verifications) - 1, 0, -1):
            if (report := self.artifacts.get(f"{TEST_REPORT}-{number}")) is not None:
                left -= report.size
                if left < 0:
                    del self.artifacts[report.name]
        self.keep_whole(TEST_REPORT, "application/json", data)

    def keep_whole(self, name: str, media_type: str, data: bytes) -> None:
        """Keep bytes that are no use when clipped. Raises AttemptFailed (LIMIT_EXCEEDED)."""
        if len(data) > ARTIFACT_LIMIT:
            message = f"the artifact {name} has {len(data)} bytes, more than {ARTIFACT_LIMIT}"
            raise AttemptFailed(Outcome.LIMIT_EXCEEDED, message)
        self.keep(name, media_type, data)

    async def compare(self, repository: Repository) -> None:
        """Tell what changed from base to commit. Raises GitError."""
        if self.commit and self.commit != self.base_commit:
            patch, clipped = await repository.diff(self.base_commit, self.commit, ARTIFACT_LIMIT)
            self.keep("diff", "text/x-diff", patch, truncated=clipped)
            self.files = await repository.digested(self.base_commit, self.commit)
            files = await write_changes(self.files, self.base_commit, self.commit)
            self.keep_whole("files", "application/json", files)

    def result(self, outcome: Outcome, message: str, now: datetime) -> TaskResult:
        """The attempt's one result."""
        if self.record is not None:
            transcript, truncated = self.record.transcript, self.record.transcript_truncated
            self.keep("transcript", "application/jsonl", transcript, truncated=truncated)
        if self.log is not None:
            self.keep("log", "text/plain; charset=utf-8", self.log.text, truncated=self.log.truncated)
        return TaskResult(
            attempt_id=self.attempt_id,
            outcome=outcome,
            message=message,
            last_sequence=0,
            start_time=self.start_time,
            end_time=now,
            base_commit=self.base_commit,
            commit=self.commit,
            branch=self.branch if self.commit else "",
            commit_subject=self.commit_subject if self.commit else "",
            files=self.files,
            verifications=self._verifications(),
            corrections=self.record.corrections if self.record else 0,
            usage=self.record.usage if self.record else (),
            turns=self.record.paid if self.record else (),
            artifacts=_ordered(self.artifacts),
            sandbox_mode=self.sandbox_mode,
            model_endpoint=self.model_endpoint,
            unverified=self.unverified,
            mutation_check=self.mutation_check,
        )

    def _verifications(self) -> tuple[VerificationRun, ...]:
        """The runs, each with the artifact that holds its report."""
        last = len(self.verifications)
        named = (
            (run, TEST_REPORT if number == last else f"{TEST_REPORT}-{number}")
            for number, run in enumerate(self.verifications, 1)
        )
        return tuple(
            replace(run, report_artifact=name if name in self.artifacts else "") for run, name in named
        )


class AttemptLog:
    """The log of an attempt, for people: what it broadcast, and what its commands printed. A Broadcast."""

    def __init__(self, broadcast: Broadcast, clock: Clock) -> None:
        self.truncated = False
        self._broadcast = broadcast
        self._clock = clock
        self._text = bytearray()

    @property
    def text(self) -> bytes:
        """All of it, or its beginning."""
        return bytes(self._text)

    def add(self, text: str) -> None:
        """Add some lines, with the time."""
        stamp = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line = f"{stamp} {text.rstrip()}\n".encode(errors="replace")
        self.truncated = self.truncated or len(self._text) + len(line) > LOG_LIMIT
        if not self.truncated:
            self._text += line

    async def __call__(self, notice: Notice) -> None:
        """Broadcast a notice, and add what people may read of it."""
        await self._broadcast(notice)
        match notice:
            case Activity(kind=kind, message=message):
                self.add(f"{kind}: {message}")
            case Correction(status=CorrectionStatus.STARTED):
                self.add(f"correction {notice.number} of {notice.limit}: {notice.error_summary or ''}")


def _ordered(artifacts: Mapping[str, Artifact]) -> Mapping[str, Artifact]:
    return {name: artifacts[name] for name in sorted(artifacts)}
