"""The status contract: what runs tell is what docs/events.md says, by kind, field and order."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract import events_document
from tests.contract.events_document import DOCUMENT, KINDS, Missing
from tests.contract.walks import Walks, walk

REMAKE = (
    "docs/events.md is not what protos, gateway and real runs say: run `make events`, and look at the diff"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Walks]:
    yield await walk(tmp_path_factory.mktemp("walks"))


@pytest.fixture(scope="module")
def document() -> str:
    return DOCUMENT.read_text()


@pytest.mark.parametrize(
    "name", ["passes", "corrects-itself", "fails", "cancelled", "timed-out", "of-a-goal"]
)
def test_a_run_tells_exactly_these_kinds_in_this_order(walks: Walks, document: str, name: str) -> None:
    told = [events_document.line(each.event) for each in walks.runs[name]]
    (sequence,) = re.findall(rf"<!-- made: sequence {name} -->\n\n```text\n(.*?)\n```", document, re.DOTALL)
    assert told == sequence.split("\n"), REMAKE


def test_every_kind_has_its_section_with_author_and_moment(document: str) -> None:
    sections = events_document.sections(document)
    for kind in KINDS:
        section = sections.get(kind, "")
        assert section, (
            f"docs/events.md has no section on {kind}: see the next test's message for what to add"
        )
        for word in ("**Author**: ", "**When**: "):
            assert re.search(re.escape(word) + r"\w", section), f"docs/events.md, {kind}: say {word}"


def test_tables_and_examples_are_those_of_the_protos_and_of_real_runs(walks: Walks, document: str) -> None:
    try:
        made = events_document.rendered(document, events_document.read_sources(walks))
    except Missing as missing:
        pytest.fail(str(missing))
    assert made.split("\n") == document.split("\n"), REMAKE


def test_a_kind_that_the_document_lacks_is_asked_for_with_what_to_add(walks: Walks, document: str) -> None:
    without = document.replace("<!-- made: kind agent_retired -->", "")
    with pytest.raises(Missing, match=r"(?s)no part 'kind agent_retired'.*### agent_retired.*\*\*Author\*\*"):
        events_document.rendered(without, events_document.read_sources(walks))


def test_a_part_of_a_kind_that_is_no_more_is_named(walks: Walks, document: str) -> None:
    stale = document + "\n<!-- made: kind agent_bored -->\n<!-- end -->\n"
    with pytest.raises(Missing, match="agent_bored"):
        events_document.rendered(stale, events_document.read_sources(walks))
