"""Tests that stand beside the code that they test, in Rust."""

import pytest

from services.workers.verification.inline_tests import holds_tests, lost_tests

BEFORE = """\
pub fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds() {
        let brace = "}"; // not }
        assert_eq!(add(1, 2), 3, "{brace}");
    }

    #[tokio::test]
    #[should_panic]
    async fn waits() {
        if true {
            panic!();
        }
    }
}
"""


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ("a + b", "b + a", []),
        ("    #[test]", "    #[test]\n    fn more() {}\n\n    #[test]", []),
        ("        assert_eq!(add(1, 2), 3", "      assert_eq!( add(1, 2),\n 3", []),
        ("assert_eq!(add(1, 2), 3", "assert_eq!(add(1, 2), 4", ["adds"]),
        ("let brace", "return; let brace", ["adds"]),
        ("    #[test]\n    fn adds", "    #[test]\n    #[ignore]\n    fn adds", ["adds"]),
        ("    #[test]\n    fn adds", "    fn adds", ["adds"]),
        ("    #[should_panic]\n", "", ["waits"]),
        (BEFORE, "", ["adds", "waits"]),
        ("#[cfg(test)]", "#[cfg(testing)]\nmod away {}\n#[cfg(test)]", []),
    ],
)
def test_what_is_lost(old: str, new: str, lost: list[str]) -> None:
    assert BEFORE.count(old) == 1
    assert lost_tests(BEFORE, BEFORE.replace(old, new)) == lost


def test_only_rust_has_such_files() -> None:
    assert [path for path in ("src/lib.rs", "a.go", "a.py", "tests/a.rs") if holds_tests(path)] == [
        "src/lib.rs",
        "tests/a.rs",
    ]
