"""What every store of the journal does."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from services.lead.journal import (
    FLEET,
    PAGE_BYTES,
    DuplicateNotice,
    Fenced,
    Filter,
    HeadMoved,
    Journal,
    JournalClosed,
    JournalError,
    Record,
    RequestIdTaken,
    RevisionAhead,
    RevisionTrimmed,
    Row,
    RowKind,
    RunUnknown,
)
from services.lead.journal.follow import follow
from tests.contract.stores import (
    STORES,
    Opened,
    notice,
    read_all,
    run_of,
    run_row,
    task_row,
    told,
)

ALL = Filter(public_only=False)


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    return STORES[request.param](tmp_path)


async def created(journal: Journal, run_id: str, project: str = "shop", tasks: int = 0) -> int:
    rows = [run_row(run_id), *(task_row(n) for n in range(tasks))]
    return (await journal.create(run_of(run_id, project), [told(b"created")], rows)).last


async def bodies(journal: Journal, which: Filter = ALL) -> list[bytes]:
    return [entry.record.body for entry in await read_all(journal, which)]


async def test_revisions_are_gapless_across_runs_and_reopening(opened: Opened) -> None:
    async with opened() as journal:
        before = await journal.bounds()
        assert (before.oldest, before.head) == (0, 0)
        a = await journal.create(run_of("a"), [told(b"1"), told(b"2")], [])
        b = await journal.create(run_of("b"), [told(b"3")], [])
        more = await journal.append("a", [told(b"4"), told(b"5")], expected_head=a.last, term=a.term)
        assert (a.first, a.last, b.first, b.last, more.first, more.last) == (1, 2, 3, 3, 4, 5)
    async with opened() as journal:
        after = await journal.bounds()
        assert (after.log_id, after.oldest, after.head) == (before.log_id, 0, 5)
        entries = await read_all(journal)
        assert [entry.revision for entry in entries] == [1, 2, 3, 4, 5]
        assert [entry.run_id for entry in entries] == ["a", "a", "b", "a", "a"]
        assert [entry.record.body for entry in entries] == [b"1", b"2", b"3", b"4", b"5"]
        assert (await journal.append("b", [told()], expected_head=3, term=None)).first == 6


async def test_a_record_comes_back_as_it_was(opened: Opened) -> None:
    record = Record("usage_recorded", bytes(range(256)), False, "1.5.1", "r.1.5.1.1", 7)
    async with opened() as journal:
        await journal.create(run_of("r"), [record], [])
    async with opened() as journal:
        (entry,) = await read_all(journal)
        assert entry.record == record


async def test_another_head_is_told_what_moved_it(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        await created(journal, "b")
        await journal.append("a", [told(b"x"), Record("bound", b"y", False)], expected_head=head, term=1)
        with pytest.raises(HeadMoved) as moved:
            await journal.append("a", [told(b"late")], [task_row(0)], expected_head=head, term=1)
        assert [entry.record.body for entry in moved.value.since] == [b"x", b"y"]
        again = moved.value.since[-1].revision
        await journal.append("a", [told(b"late")], expected_head=again, term=1)
        assert await bodies(journal) == [b"created", b"created", b"x", b"y", b"late"]
        assert (await journal.rows("a", RowKind.TASK)).rows == ()


async def test_of_many_at_one_head_one_gets_through(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        answers = await asyncio.gather(
            *(journal.append("a", [told(b"%d" % n)], expected_head=head, term=1) for n in range(20)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, HeadMoved)]
        assert len(refused) == 19
        (winner,) = [n for n, answer in enumerate(answers) if not isinstance(answer, BaseException)]
        for moved in refused:
            assert [entry.record.body for entry in moved.since] == [b"%d" % winner]
        assert await bodies(journal) == [b"created", b"%d" % winner]


async def test_a_claim_fences_who_held_the_run_before(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        claimed = await journal.claim("a", [Record("claimed", b"", False)], expected_head=head)
        assert claimed.term == 2
        with pytest.raises(Fenced) as fenced:
            await journal.append("a", [told(b"old")], expected_head=claimed.last, term=1)
        assert fenced.value.term == 2
        asked = await journal.append("a", [told(b"cancel")], expected_head=claimed.last, term=None)
        assert asked.term == 2
        await journal.append("a", [told(b"new")], expected_head=asked.last, term=2)
        assert await bodies(journal) == [b"created", b"", b"cancel", b"new"]
        with pytest.raises(HeadMoved):
            await journal.claim("a", [told()], expected_head=head)
        with pytest.raises(RunUnknown):
            await journal.claim("nobody", [told()], expected_head=0)


async def test_a_claim_writes_rows_too_and_what_was_handed_in_before_is_fenced(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a", tasks=1)
        claim = journal.claim("a", [told(b"mine")], [run_row("a", b"claimed")], expected_head=head)
        claimed, late = await asyncio.gather(
            claim,
            journal.append("a", [told(b"late")], [task_row(0, b"late")], expected_head=head, term=1),
            return_exceptions=True,
        )
        assert isinstance(late, Fenced)
        assert not isinstance(claimed, BaseException)
        row = await journal.row("a", RowKind.RUN, "a")
        assert row is not None
        assert (row.row.body, row.revision) == (b"claimed", claimed.last)
        assert await bodies(journal) == [b"created", b"mine"]
        found = await journal.run("a")
        assert found is not None
        assert (found.head, found.term) == (claimed.last, 2)


async def test_a_request_id_is_used_once_in_its_project(opened: Opened) -> None:
    async with opened() as journal:
        await journal.create(run_of("a", "shop", "same", "first"), [told(b"a")], [])
        with pytest.raises(RequestIdTaken) as taken:
            await journal.create(run_of("b", "shop", "same", "second"), [told(b"b")], [run_row("b")])
        assert (taken.value.run.run.run_id, taken.value.run.run.digest) == ("a", "first")
        await journal.create(run_of("c", "other", "same", "third"), [told(b"c")], [])
        assert await bodies(journal) == [b"a", b"c"]
        assert await journal.run("b") is None
        found = await journal.requested("other", "same")
        assert found is not None
        assert (found.run.run_id, found.created, found.head, found.term, found.final) == ("c", 2, 2, 1, False)
        assert await journal.requested("other", "different") is None


async def test_a_run_that_nobody_created_is_unknown(opened: Opened) -> None:
    async with opened() as journal:
        for call in (
            journal.append("nobody", [told()], expected_head=0, term=None),
            journal.rows("nobody", RowKind.TASK),
            journal.unfinished("nobody"),
        ):
            with pytest.raises(RunUnknown, match="nobody"):
                await call
        assert await journal.run("nobody") is None
        assert await journal.row("nobody", RowKind.RUN, "nobody") is None
        assert (await journal.run_entries("nobody")).entries == ()


async def test_an_append_without_records_is_a_mistake(opened: Opened) -> None:
    async with opened() as journal:
        await created(journal, "a")
        with pytest.raises(ValueError, match="no records"):
            await journal.append("a", [], [task_row(0)], expected_head=1, term=1)
        with pytest.raises(ValueError, match="another id"):
            await journal.append("a", [told()], [run_row("b")], expected_head=1, term=1)


async def test_a_notice_is_journaled_once(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        head = (
            await journal.append("a", [notice("a.1", 1), notice("a.1", 2)], expected_head=head, term=1)
        ).last
        with pytest.raises(DuplicateNotice) as duplicate:
            await journal.append(
                "a", [told(b"whole"), notice("a.1", 3), notice("a.1", 2)], expected_head=head, term=1
            )
        assert (duplicate.value.attempt_id, duplicate.value.sequence) == ("a.1", 2)
        with pytest.raises(DuplicateNotice):
            await journal.append("a", [notice("a.1", 3), notice("a.1", 3)], expected_head=head, term=1)
        # Refused whole: the same sequence under another attempt, and sequence 3 itself, are still free.
        await journal.append(
            "a",
            [notice("a.1", 3), notice("a.2", 2), told(b"lead"), told(b"lead")],
            expected_head=head,
            term=1,
        )
        assert len(await read_all(journal)) == 7


async def test_each_append_of_a_group_is_refused_alone(opened: Opened) -> None:
    async with opened() as journal:
        heads = {run_id: await created(journal, run_id) for run_id in "abcd"}
        answers = await asyncio.gather(
            journal.append("a", [told(b"a1"), notice("x", 1)], [task_row(0, b"a")], expected_head=1, term=1),
            journal.append("b", [told(b"b1"), notice("x", 1)], [task_row(0, b"b")], expected_head=2, term=1),
            journal.append("c", [told(b"c1")], [task_row(0, b"c")], expected_head=2, term=1),
            journal.append("d", [told(b"d1")], [task_row(0, b"d")], expected_head=heads["d"], term=9),
            journal.append("b", [told(b"b2")], [task_row(1, b"b")], expected_head=2, term=None),
            return_exceptions=True,
        )
        kinds = [type(answer).__name__ for answer in answers]
        assert kinds == ["Appended", "DuplicateNotice", "HeadMoved", "Fenced", "Appended"]
        assert [entry.revision for entry in await read_all(journal)] == list(range(1, 8))
        assert await bodies(journal) == [b"created"] * 4 + [b"a1", b"notice", b"b2"]
        rows = {
            run_id: [s.row.id for s in (await journal.rows(run_id, RowKind.TASK)).rows] for run_id in "abcd"
        }
        assert rows == {"a": ["t0"], "b": ["t1"], "c": [], "d": []}


async def test_who_stops_waiting_withdraws_no_append(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        await created(journal, "b")
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(journal.append("a", [told(b"kept")], expected_head=head, term=1))
            refused = tasks.create_task(journal.append("a", [told(b"refused")], expected_head=head, term=1))
            other = tasks.create_task(journal.append("b", [told(b"other")], expected_head=2, term=1))
            await asyncio.sleep(0)  # All three wait now; nothing is committed before the next turn.
            first.cancel()
            refused.cancel()
        assert first.cancelled()
        assert (await other).first == 4
        assert await bodies(journal) == [b"created", b"created", b"kept", b"other"]
        with pytest.raises(HeadMoved):
            await journal.append("a", [told()], expected_head=head, term=1)


async def test_closing_waits_for_what_was_handed_in(opened: Opened) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with opened() as journal:
            head = await created(journal, "a")
            late = tasks.create_task(journal.append("a", [told(b"last")], expected_head=head, term=1))
            waits = tasks.create_task(outcome(journal))
            await asyncio.sleep(0)
        assert (await late).last == head + 1
        assert await waits is JournalClosed
        for call in (
            journal.append("a", [told()], expected_head=head + 1, term=1),
            journal.run("a"),
            journal.changed(0),
            journal.bounds(),
        ):
            with pytest.raises(JournalClosed):
                await call
    async with opened() as journal:
        assert await bodies(journal) == [b"created", b"last"]


async def outcome(journal: Journal) -> type[JournalError] | None:
    """How waiting for what never comes ends."""
    try:
        await journal.changed(1_000)
    except JournalError as error:
        return type(error)
    return None


async def test_rows_are_as_the_last_append_left_them(opened: Opened) -> None:
    async with opened() as journal:
        head = (
            await journal.create(
                run_of("a"), [told(), told()], [run_row("a", b"r0"), task_row(0, b"x0"), task_row(1, b"y0")]
            )
        ).last
        attempt = Row(RowKind.ATTEMPT, "a.t1.1", 0, b"z0", False, "t1")
        head = (
            await journal.append(
                "a",
                [told(), told(), told()],
                [task_row(1, b"y1", final=True), attempt],
                expected_head=head,
                term=1,
            )
        ).last
        tasks = await journal.rows("a", RowKind.TASK)
        assert [(s.run_id, s.revision, s.row) for s in tasks.rows] == [
            ("a", 2, Row(RowKind.TASK, "t0", 0, b"x0", False, "t0")),
            ("a", 5, Row(RowKind.TASK, "t1", 1, b"y1", True, "t1")),
        ]
        assert not tasks.more
        found = await journal.attempt("a.t1.1")
        assert found is not None
        assert (found.run_id, found.revision, found.row) == ("a", 5, attempt)
        assert await journal.row("a", RowKind.ATTEMPT, "a.t1.1") == found
        assert [s.row.id for s in (await journal.rows("a", RowKind.ATTEMPT, "t1")).rows] == ["a.t1.1"]
        assert (await journal.rows("a", RowKind.ATTEMPT, "t0")).rows == ()
        assert [s.row.id for s in (await journal.rows("a", RowKind.TASK, "t1")).rows] == ["t1"]
        assert await journal.unfinished("a", frozenset({"t1"})) == 0
        assert await journal.unfinished("a", frozenset({"t0", "t1"})) == 1
        assert await journal.unfinished("a", frozenset({"t1", "t9"})) == 1
        run = await journal.row("a", RowKind.RUN, "a")
        assert run is not None
        assert (run.revision, run.row.body) == (2, b"r0")


async def test_rows_come_in_pages_by_ordinal_and_size(opened: Opened) -> None:
    async with opened() as journal:
        rows = [task_row(n, b"%d" % n) for n in (3, 0, 4, 1, 2)]
        await journal.create(run_of("a"), [told()], rows)
        first = await journal.rows("a", RowKind.TASK, limit=2)
        assert ([s.row.ordinal for s in first.rows], first.more) == ([0, 1], True)
        second = await journal.rows("a", RowKind.TASK, after=1, limit=3)
        assert ([s.row.ordinal for s in second.rows], second.more) == ([2, 3, 4], False)
        assert (await journal.rows("a", RowKind.TASK, after=4)).rows == ()
        big = [task_row(n, bytes(PAGE_BYTES // 2)) for n in range(2)] + [task_row(2, bytes(PAGE_BYTES + 1))]
        await journal.create(run_of("b"), [told()], big)
        page = await journal.rows("b", RowKind.TASK)
        assert ([s.row.ordinal for s in page.rows], page.more) == ([0, 1], True)
        page = await journal.rows("b", RowKind.TASK, after=1)
        assert ([s.row.ordinal for s in page.rows], page.more) == ([2], False)


async def test_runs_come_newest_first_and_open_ones_oldest_first(opened: Opened) -> None:
    async with opened() as journal:
        for n in range(5):
            await created(journal, f"r{n}", "even" if n % 2 == 0 else "odd")
        await journal.append("r1", [told()], [run_row("r1", b"done", final=True)], expected_head=2, term=1)
        await journal.append("r0", [told()], [run_row("r0", b"busy")], expected_head=1, term=1)
        page = await journal.runs(limit=3)
        assert ([s.run_id for s in page.rows], page.more) == (["r4", "r3", "r2"], True)
        page = await journal.runs(before=page.rows[-1].row.ordinal)
        assert ([s.run_id for s in page.rows], page.more) == (["r1", "r0"], False)
        assert [s.row.body for s in page.rows] == [b"done", b"busy"]
        assert [s.revision for s in page.rows] == [6, 7]
        assert [s.run_id for s in (await journal.runs("odd")).rows] == ["r3", "r1"]
        assert [run.run.run_id for run in await journal.open_runs()] == ["r0", "r2", "r3", "r4"]
        assert [run.run.run_id for run in await journal.open_runs(after=3)] == ["r3", "r4"]
        assert await journal.unfinished("r1") == 0
        assert await journal.unfinished("r0") == 1
        ended = await journal.run("r1")
        assert ended is not None
        assert ended.final
        await journal.append("r1", [told()], expected_head=6, term=1)  # A late fact does not open it again.
        assert await journal.unfinished("r1") == 0


async def test_filters_leave_what_they_say(opened: Opened) -> None:
    async with opened() as journal:
        a = await journal.create(run_of("a", "shop"), [told(b"a", "run_status_changed")], [])
        await journal.create(run_of("b", "shop"), [told(b"b"), Record("bound", b"bp", False, "t1")], [])
        await journal.create(run_of("c", "bank"), [told(b"c")], [])
        await journal.append(
            "a", [told(b"a1", "task_assigned", "t1"), told(b"a2", task_id="t2")], expected_head=a.last, term=1
        )
        await journal.append(FLEET, [told(b"f", "agent_created")], expected_head=0, term=None)
        for which, expected in (
            (Filter(), b"a b c a1 a2 f"),
            (Filter(public_only=False), b"a b bp c a1 a2 f"),
            (Filter(project="shop"), b"a b a1 a2 f"),
            (Filter(project="bank"), b"c f"),
            (Filter(project="none"), b"f"),
            (Filter(runs=frozenset({"a"})), b"a a1 a2"),
            (Filter(runs=frozenset({"a", "c"})), b"a c a1 a2"),
            (Filter(runs=frozenset({FLEET})), b"f"),
            (Filter(runs=frozenset({"a"}), tasks=frozenset({"t1"})), b"a1"),
            (Filter(runs=frozenset({"a"}), tasks=frozenset({"t1", "t2"})), b"a1 a2"),
            (Filter(kinds=frozenset({"agent_created", "run_status_changed"})), b"a f"),
            (Filter(project="shop", kinds=frozenset({"progress_update"})), b"b a2"),
            (Filter(project="bank", runs=frozenset({"a"})), b""),
        ):
            for limit in (1, 2, 500):
                entries = await read_all(journal, which, limit)
                assert b" ".join(entry.record.body for entry in entries) == expected, which
        assert [e.record.body for e in (await journal.run_entries("b")).entries] == [b"b", b"bp"]
        assert [e.record.body for e in (await journal.run_entries("b", 2)).entries] == [b"bp"]


async def test_a_page_is_bounded_by_count_and_bytes(opened: Opened) -> None:
    async with opened() as journal:
        half = bytes(PAGE_BYTES // 2)
        await journal.create(
            run_of("a"), [told(half), told(half), told(b"."), told(half * 3), told(b".")], []
        )
        pages, after = [], 0
        while after < 5:
            page = await journal.entries(after, ALL)
            pages.append([entry.revision for entry in page.entries])
            after = page.through
        assert pages == [[1, 2], [3], [4], [5]]
        await journal.create(run_of("b"), [told(b"%d" % n) for n in range(600)], [])
        page = await journal.entries(5, ALL, limit=10_000)
        assert len(page.entries) == 500
        assert page.through == 505


async def test_a_rare_match_is_found_behind_many_others(opened: Opened) -> None:
    async with opened() as journal:
        head = (await journal.create(run_of("a"), [told(b"first", "task_assigned")], [])).last
        for _ in range(3):
            head = (await journal.append("a", [told(b".")] * 8_000, expected_head=head, term=1)).last
        await journal.append("a", [told(b"last", "task_assigned")], expected_head=head, term=1)
        assert await bodies(journal, Filter(kinds=frozenset({"task_assigned"}))) == [b"first", b"last"]
        page = await journal.entries(1, Filter(runs=frozenset({"a"}), kinds=frozenset({"task_assigned"})))
        assert ([entry.record.body for entry in page.entries], page.through) == ([b"last"], head + 1)


async def test_a_place_outside_the_log_is_told(opened: Opened) -> None:
    async with opened() as journal:
        await created(journal, "a")
        assert (await journal.entries(1, ALL)).entries == ()
        with pytest.raises(RevisionAhead) as ahead:
            await journal.entries(2, ALL)
        assert ahead.value.head == 1


async def test_trimming_moves_the_beginning_and_drops_what_ended(opened: Opened) -> None:
    async with opened() as journal:
        await journal.create(run_of("old"), [told(b"1")], [run_row("old"), task_row(0)])
        await journal.create(
            run_of("busy"), [told(b"2"), notice("busy.1", 1)], [run_row("busy"), task_row(0, b"x")]
        )
        await journal.append("old", [told(b"4")], [run_row("old", final=True)], expected_head=1, term=1)
        await journal.create(run_of("late"), [told(b"5")], [run_row("late")])
        await journal.append("late", [told(b"6")], [run_row("late", final=True)], expected_head=5, term=1)
        assert await journal.trim(5) == ("old",)
        assert await journal.trim(3) == ()
        bounds = await journal.bounds()
        assert (bounds.oldest, bounds.head) == (5, 6)
    async with opened() as journal:
        assert (await journal.bounds()) == bounds
        assert await bodies(journal) == [b"6"]
        for after in (0, 4):
            with pytest.raises(RevisionTrimmed) as trimmed:
                await journal.entries(after, ALL)
            assert trimmed.value.oldest == 5
        assert await journal.run("old") is None
        assert [s.row.body for s in (await journal.rows("busy", RowKind.TASK)).rows] == [b"x"]
        assert [s.run_id for s in (await journal.runs()).rows] == ["late", "busy"]
        with pytest.raises(RevisionTrimmed):
            await journal.append("busy", [told()], expected_head=2, term=1)
        assert (await journal.append("busy", [told(b"7")], expected_head=3, term=1)).first == 7
        await journal.create(run_of("old"), [told(b"8")], [])


async def test_nothing_is_seen_before_it_is_journaled(opened: Opened) -> None:
    """A reader at the head sees each append whole, and rows never newer than the entries it can read."""
    async with opened() as journal:
        head = await created(journal, "a", tasks=1)

        async def write() -> None:
            at = head
            for n in range(100):
                body = b"%d" % n
                at = (
                    await journal.append(
                        "a", [told(body), told(body)], [task_row(0, body)], expected_head=at, term=1
                    )
                ).last

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            read = 0
            while read < 100:
                (stored,) = (await journal.rows("a", RowKind.TASK)).rows
                entries = (await journal.entries(head, ALL)).entries
                assert len(entries) % 2 == 0
                read = len(entries) // 2
                assert [e.record.body for e in entries] == [b"%d" % (n // 2) for n in range(2 * read)]
                assert stored.revision <= head + 2 * read
                await journal.changed(head + 2 * read) if read < 100 else None


async def test_folding_the_entries_equals_the_rows(opened: Opened) -> None:
    """Many runs at once, each taking its head from what it was told: no fact is lost, none is half there."""
    async with opened() as journal:

        async def drive(run_id: str, writers: int) -> None:
            head = await created(journal, run_id, tasks=3)

            async def write(writer: int) -> None:
                at = head
                for n in range(10):
                    task, body = (writer + n) % 3, b"%d.%d" % (writer, n)
                    while True:
                        try:
                            records = [told(body, task_id=f"t{task}"), Record("private", b"", False)]
                            rows = [task_row(task, body)]
                            at = (await journal.append(run_id, records, rows, expected_head=at, term=1)).last
                            break
                        except HeadMoved as moved:
                            at = moved.since[-1].revision

            async with asyncio.TaskGroup() as tasks:
                for writer in range(writers):
                    tasks.create_task(write(writer))

        async with asyncio.TaskGroup() as tasks:
            for run in range(5):
                tasks.create_task(drive(f"r{run}", 3))

        entries = await read_all(journal)
        assert [entry.revision for entry in entries] == list(range(1, 5 * (1 + 3 * 10 * 2) + 1))
        for run in range(5):
            told_last = {
                e.record.task_id: (e.record.body, e.revision + 1)
                for e in entries
                if e.run_id == f"r{run}" and e.record.task_id
            }
            rows = (await journal.rows(f"r{run}", RowKind.TASK)).rows
            assert {s.row.id: (s.row.body, s.revision) for s in rows} == told_last
            stood = await journal.run(f"r{run}")
            assert stood is not None
            assert stood.head == max(e.revision for e in entries if e.run_id == f"r{run}")


async def test_twenty_followers_get_every_entry_once_though_one_never_reads(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        total = 1_000

        async def write(run_id: str) -> None:
            at = await created(journal, run_id)
            for n in range(total // 4 - 1):
                at = (await journal.append(run_id, [told(b"%d" % n)], expected_head=at, term=1)).last

        async def read() -> list[int]:
            revisions: list[int] = []
            async with aclosing(follow(journal, head, Filter())) as pages:
                async for page in pages:
                    revisions.extend(entry.revision for entry in page.entries)
                    if page.through == head + total:
                        break
            return revisions

        async with aclosing(follow(journal, head, Filter())) as never_read:
            async with asyncio.TaskGroup() as tasks:
                readers = [tasks.create_task(read()) for _ in range(19)]
                for run_id in "wxyz":
                    tasks.create_task(write(run_id))
            for reader in readers:
                assert reader.result() == list(range(head + 1, head + total + 1))
            first = await anext(never_read)
            assert first.entries[0].revision == head + 1
            assert len(first.entries) == 500


async def test_a_follower_hears_how_far_the_log_was_read_and_pulses_when_it_rests(opened: Opened) -> None:
    async with opened() as journal:
        head = await created(journal, "a")
        async with aclosing(follow(journal, 0, Filter(), pulse=0.01)) as pages:
            assert [e.revision for e in (await anext(pages)).entries] == [1]
            page = await anext(pages)
            assert (page.entries, page.through) == ((), 1)
            await journal.append("a", [Record("private", b"", False)], expected_head=head, term=1)
            while page.through == 1:
                page = await anext(pages)
            assert (page.entries, page.through) == ((), 2)
