"""What an attempt is asked to do, and what it hands back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from codeframe.budget import NO_LIMIT, Budget
from codeframe.plan import Protected
from services.workers.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a verification's tests: at the run's base, and in what was merged since.

    `steering` is what of the tree takes part in how they are found, run or told.
    """

    passing: frozenset[str] = frozenset()
    red: frozenset[str] = frozenset()
    steering: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Checks:
    """How work is checked; not at all for a plan. `baseline` is None where the run's base is verified."""

    verification: str
    report: str = ""
    setup: str = ""
    setup_paths: tuple[str, ...] = ()
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt may take."""

    attempt_timeout: timedelta = timedelta(minutes=30)
    test_timeout: timedelta = timedelta(seconds=300)
    orphan_grace: timedelta = timedelta(minutes=10)
    turns: int = 100
    corrections: int = 3
    allowance: Budget = NO_LIMIT

    @property
    def time(self) -> tuple[timedelta, Outcome]:
        """How long the attempt may work, and how it ends then: its own limit, or its allowance."""
        allowed = self.allowance.wall_time
        if allowed is not None and allowed < self.attempt_timeout:
            return allowed, Outcome.ALLOWANCE_SPENT
        return self.attempt_timeout, Outcome.TIMED_OUT


@dataclass(frozen=True, slots=True)
class PreviousAttempt:
    """How the attempt before ended, as the agent is told: why, its patch, and the tests that were red."""

    outcome: str
    message: str
    diff: str = ""
    red_tests: str = ""


@dataclass(frozen=True, slots=True)
class ScopeOverride:
    """What the project says of a role's write scope: in place of the role's own, and besides its own."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskWork:
    """A task to do. `start_commit` is empty where the work starts at `base_commit`.

    `unverified`: nothing verifies the work, and the request's checks are empty.
    """

    task_id: str
    title: str
    description: str
    number: int
    base_commit: str
    branch: str
    start_commit: str = ""
    model: str = ""
    may_change: frozenset[Protected] = frozenset()
    previous: PreviousAttempt | None = None
    unverified: bool = False
    scope: ScopeOverride = ScopeOverride()


@dataclass(frozen=True, slots=True)
class PlanWork:
    """A plan to make of a goal: the base is read, nothing is changed. Its tasks may have these `roles`."""

    goal: str
    base_commit: str
    roles: tuple[str, ...]
    number: int = 1
    model: str = ""
    previous: PreviousAttempt | None = None


@dataclass(frozen=True, slots=True)
class VerifyWork:
    """A commit to verify: no model, no branch of its own, no change."""

    commit: str
    branch: str = ""


@dataclass(frozen=True, slots=True)
class AttemptRequest:
    """An ExecuteTask request, as the domain sees it."""

    attempt_id: str
    run_id: str
    role: str
    repository: str
    run_base_commit: str
    checks: Checks
    limits: Limits
    work: TaskWork | VerifyWork | PlanWork


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What model calls took, in tokens and millionths of a dollar, for one model.

    Where not `cost_known`, the cost is that of the calls whose price is known. `scripted`: a stand-in
    replied to some of them.
    """

    model: str
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    incomplete: bool = False
    scripted: bool = False
    cost_micros: int = 0
    cost_known: bool = True

    @property
    def tokens(self) -> int:
        """Tokens of every kind."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens + self.cache_read_tokens

    def __add__(self, other: "ModelUsage") -> "ModelUsage":
        """The sum of two usages of the same model."""
        if self.model != other.model:
            raise ValueError(f"usages of two models: {self.model}, {other.model}")
        return ModelUsage(
            self.model,
            self.turns + other.turns,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.incomplete or other.incomplete,
            self.scripted or other.scripted,
            self.cost_micros + other.cost_micros,
            self.cost_known and other.cost_known,
        )


@dataclass(frozen=True, slots=True)
class TurnUsage:
    """What one turn took. `request_ids` are the provider's, of the tries that may be billed."""

    turn: int
    usage: ModelUsage
    request_ids: tuple[str, ...]
    duration: timedelta


@dataclass(frozen=True, slots=True)
class VerificationRun:
    """One run of the project's own checks on a fresh checkout of a committed tree."""

    command: str
    commit: str
    exit_code: int | None
    green: bool
    summary: str
    passed: int
    failed: int
    errors: int
    skipped: int
    red_tests: tuple[str, ...]
    report_digest: str
    duration: timedelta
    sandbox_mode: str
    timed_out: bool
    collected: int = 0
    report_artifact: str = ""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A small wrong change of the code under test that was tried."""

    path: str
    line: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MutationCheck:
    """Whether new tests notice when the code under test is wrong.

    `failed_test` failed on the last of `tried`, and passes without it; empty where none did. `not_done`
    says why nothing was tried; empty where something was.
    """

    commit: str
    tried: tuple[Mutation, ...] = ()
    failed_test: str = ""
    not_done: str = ""
    duration: timedelta = timedelta()

    @property
    def passed(self) -> bool:
        """Whether the tests noticed one, or nothing could be tried."""
        return bool(self.failed_test or self.not_done)


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs between base and commit; `operation` is created, modified or deleted.

    Modes are git's octal digits, digests sha256 in hex; empty where the file is not there, and the digest of
    a submodule.
    """

    path: str
    operation: str
    mode_before: str = ""
    mode_after: str = ""
    sha256_before: str = ""
    sha256_after: str = ""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Named immutable bytes of an attempt, at most 16 MiB. `data` is empty once the attempt was released."""

    name: str
    media_type: str
    size: int
    sha256: str
    truncated: bool = False
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The one result of an attempt: its outcome and the evidence for it."""

    attempt_id: str
    outcome: Outcome
    message: str
    last_sequence: int
    start_time: datetime
    end_time: datetime
    base_commit: str = ""
    commit: str = ""
    branch: str = ""
    commit_subject: str = ""
    files: tuple[FileChange, ...] = ()
    verifications: tuple[VerificationRun, ...] = ()
    corrections: int = 0
    usage: tuple[ModelUsage, ...] = ()
    turns: tuple[TurnUsage, ...] = ()
    artifacts: Mapping[str, Artifact] | None = None
    sandbox_mode: str = ""
    model_endpoint: str = ""
    unverified: bool = False
    mutation_check: MutationCheck | None = None
    wall_time: timedelta = timedelta()
