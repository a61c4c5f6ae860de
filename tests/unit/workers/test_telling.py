"""What `go test -json` and `cargo test` said, recorded, as tests; and which calls of theirs are tests."""

import json
from pathlib import Path

import pytest

from services.workers.verification.shims.telling import CargoTests, GoTests, place_of_test, prepared

RECORDED = Path(__file__).parent / "recorded"
SHOP = "example.com/shop"


def read(reader: GoTests | CargoTests, text: str) -> dict[str, str]:
    lines = [told for line in text.splitlines(keepends=True) for told in reader.feed(line)]
    lines += reader.unended()
    assert len({line["id"] for line in lines}) == len(lines), "a test is told once"
    return {line["id"]: line["state"] for line in lines}


def messages(reader: GoTests | CargoTests, text: str) -> dict[str, str]:
    lines = [told for line in text.splitlines(keepends=True) for told in reader.feed(line)]
    return {line["id"]: line["message"] for line in lines}


def test_go_tells_each_test_and_what_could_not_be_run() -> None:
    text = (RECORDED / "go_test.jsonl").read_text()
    assert read(GoTests(False), text) == {
        f"{SHOP}/broken": "error",
        f"{SHOP}/calc > TestAdd": "passed",
        f"{SHOP}/calc > TestAdd/small": "passed",
        f"{SHOP}/calc > TestAdd/skips": "skipped",
        f"{SHOP}/calc > TestRed": "failed",
        f"{SHOP}/calc > TestRed/inner": "failed",
        f"{SHOP}/calc > ExampleAdd": "passed",
        f"{SHOP}/exits > TestOne": "passed",
        f"{SHOP}/exits > TestExits": "error",
    }
    said = messages(GoTests(False), text)
    assert "cannot use" in said[f"{SHOP}/broken"]
    assert "two and two: 4" in said[f"{SHOP}/calc > TestRed/inner"]


def test_go_prints_what_people_read() -> None:
    reader = GoTests(False)
    read(reader, (RECORDED / "go_test.jsonl").read_text() + "a line that is no JSON\n")
    assert "red_test.go:6: two and two: 4" in reader.text
    assert "cannot use" in reader.text
    assert f"FAIL\t{SHOP}/calc" in reader.text
    assert "=== RUN   TestAdd\n" not in reader.text
    assert reader.text.endswith("a line that is no JSON\n")


def test_a_go_test_that_was_ended_is_told_as_such() -> None:
    events = [{"Action": "run", "Package": "p", "Test": "TestA"}]
    events += [{"Action": "output", "Package": "p", "Test": "TestA", "Output": "half\n"}]
    text = "".join(json.dumps(event) + "\n" for event in events)
    assert read(GoTests(False), text) == {"p > TestA": "error"}


def test_cargo_tells_unit_integration_and_documentation_tests() -> None:
    text = (RECORDED / "cargo_test.txt").read_text()
    assert read(CargoTests(), text) == {
        "shop src/lib.rs > tests::adds": "passed",
        "shop src/lib.rs > tests::waits": "skipped",
        "shop src/lib.rs > tests::panics": "passed",
        "it tests/it.rs > whole": "failed",
        "shop documents > src/lib.rs - add": "passed",
        "shop documents > src/lib.rs - add #2": "failed",
    }
    said = messages(CargoTests(), text)
    assert "two and two" in said["it tests/it.rs > whole"]
    assert "left: 2" in said["shop documents > src/lib.rs - add #2"]


def test_documentation_tests_are_told_apart_in_whatever_order_they_end() -> None:
    text = (RECORDED / "cargo_test.txt").read_text()
    first, second = (
        f"test src/lib.rs - add (line {line}) ... {how}\n" for line, how in ((5, "ok"), (9, "FAILED"))
    )
    assert first + second in text
    swapped = text.replace(first + second, second + first)
    assert read(CargoTests(), swapped) == read(CargoTests(), text)


HEAD = "     Running unittests src/lib.rs (target/debug/deps/shop-c95e7aecbc6504f8)\n\nrunning 2 tests\n"
GOOD = "test a ... ok\ntest b ... ok\n"
RESULT = "\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.4s\n"


@pytest.mark.parametrize(
    ("text", "states"),
    [
        (HEAD + GOOD + RESULT, {"shop src/lib.rs > a": "passed", "shop src/lib.rs > b": "passed"}),
        (
            HEAD + "test a ... ok\nnoise test b ... ok\n" + RESULT,
            {"shop src/lib.rs > a": "passed", "shop src/lib.rs": "error"},
        ),
        (
            HEAD + GOOD + "test c ... ok\n" + RESULT,
            {f"shop src/lib.rs > {name}": "passed" for name in "abc"} | {"shop src/lib.rs": "error"},
        ),
        (HEAD + GOOD, {"shop src/lib.rs": "error"}),
        (HEAD + GOOD + HEAD.replace("2 tests", "0 tests"), {"shop src/lib.rs": "error"}),
        ("test a ... ok\n" + RESULT, {}),
        ("error[E0308]: mismatched types\n", {}),
    ],
)
def test_what_cargo_prints_is_held_against_its_own_counts(text: str, states: dict[str, str]) -> None:
    reader = CargoTests()
    lines = [told for line in text.splitlines(keepends=True) for told in reader.feed(line)]
    lines += reader.unended()
    assert {line["id"]: line["state"] for line in lines} == states


@pytest.mark.parametrize(
    ("tool", "words", "prepared_words"),
    [
        ("go", "test ./...", "test -json ./..."),
        ("go", "-C tools test -v ./...", "-C tools test -json -v ./..."),
        ("go", "test -json ./...", "test -json ./..."),
        ("go", "build ./...", None),
        ("go", "run ./cmd test", None),
        ("cargo", "test", "test --no-fail-fast"),
        (
            "cargo",
            "+stable --locked t --lib -- --nocapture",
            "+stable --locked t --no-fail-fast --lib -- --nocapture",
        ),
        ("cargo", "--config net.offline=true test", "--config net.offline=true test --no-fail-fast"),
        ("cargo", "nextest run", None),
        ("cargo", "fmt --check", None),
        ("cargo", "", None),
    ],
)
def test_calls_that_test_are_made_to_tell(tool: str, words: str, prepared_words: str | None) -> None:
    place = place_of_test(tool, words.split())
    assert (place >= 0) == (prepared_words is not None)
    if prepared_words is not None:
        assert prepared(tool, words.split(), place) == prepared_words.split()
