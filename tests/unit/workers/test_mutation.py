"""Mutants: which are made of code, which code is under test, and which are tried first."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.workers.mutation.mutant import Kind, Mutant, chosen
from services.workers.mutation.other_code import mutants_by_token
from services.workers.mutation.python_code import is_python, python_mutants
from services.workers.mutation.under_test import code_under_test, sources_of

PYTHON = '''
"""Prices == money."""
RATE = 2 + 3


@cached(1 + 1)
def total(prices: "a == b", rate=1 + 1) -> int:
    """A docstring, 1 + 1."""
    if not prices and rate > 0:
        raise ValueError("none")
    log(prices)
    text = "a" + f"{rate + 1}"
    return (rate) == RATE  # == here


class Cart:
    limit = 1 + 1

    async def add(self, item):
        self.count += 1
        await self.save()
        return
'''


def seen(mutants: list[Mutant]) -> list[str]:
    return [f"{mutant.before} → {mutant.after}" for mutant in mutants]


def test_python_is_changed_inside_functions_only() -> None:
    source = PYTHON.encode()
    mutants = python_mutants("shop/prices.py", source)
    assert seen(mutants) == [
        "not prices and rate > 0 → (not (not prices and rate > 0))",
        "and → or",
        "not prices → (prices)",
        "> → <=",
        "0 → 1",
        'raise ValueError("none") → pass',
        "log(prices) → None",
        "\"a\" → 'a changed'",
        "(rate) == RATE → None",
        "== → !=",
        "+= → -=",
        "1 → 2",
        "await self.save() → None",
    ]
    assert {mutant.owner for mutant in mutants} == {("total",), ("Cart", "add")}
    lines = PYTHON.splitlines()
    assert all(mutant.before.split("\n")[0] in lines[mutant.line - 1] for mutant in mutants)
    assert all(is_python(mutant.applied(source)) for mutant in mutants)
    assert all(mutant.applied(source) != source for mutant in mutants)


def test_places_are_bytes() -> None:
    source = 'def greet(name):\n    return "käse €" if name == "ä" else "ö"\n'.encode()
    (equal,) = [mutant for mutant in python_mutants("a.py", source) if mutant.before == "=="]
    assert equal.applied(source).decode() == 'def greet(name):\n    return "käse €" if name != "ä" else "ö"\n'


@pytest.mark.parametrize("source", [b"def f(:\n", b"\xff\xfe", b"", b"(" * 5000])
def test_what_is_not_python_has_no_mutants(source: bytes) -> None:
    assert python_mutants("a.py", source) == []


SCRIPT = """// a == b
import { x } from "./x.js"; /* 1 + 1 */
export function add(a, b) {
  if (a === 1 && b >= 2) { return a + b; }
  const s = `x == ${a}`; let n = 10;
  return f(a,
    b);
}
const less = (a, b) => a < b;
"""


def test_scripts_are_changed_at_operators_outside_of_texts() -> None:
    mutants = mutants_by_token("web/add.js", SCRIPT.encode())
    assert [(mutant.line, text) for mutant, text in zip(mutants, seen(mutants), strict=True)] == [
        (4, "=== → !=="),
        (4, "1 → 2"),
        (4, "&& → ||"),
        (4, ">= → <"),
        (4, "2 → 3"),
        (4, "a + b → null"),
        (4, "+ → -"),
        (5, "10 → 11"),
        (9, "< → >="),
    ]
    assert {mutant.owner for mutant in mutants} == {("add",), ("less",)}
    assert mutants[5].applied(SCRIPT.encode()).decode() == SCRIPT.replace("a + b", "null")


GO = """func (c *Calc) Add(a, b int) int {
	if a > b && b != 0 { // a == b
		return a + b
	}
	r := '"'; s := `a == b`
	return -1
}
"""
RUST = """pub fn add<'a, T: Into<u32>>(x: &'a T, n: u32) -> bool {
    let q = '"';
    n <= 3 || n == 4 && true
}
"""


@pytest.mark.parametrize(
    ("name", "source", "changes"),
    [
        ("calc.go", GO, ["> → <=", "&& → ||", "!= → ==", "0 → 1", "+ → -", "1 → 2"]),
        ("lib.rs", RUST, ["<= → >", "3 → 4", "|| → &&", "== → !=", "4 → 5", "&& → ||", "true → false"]),
    ],
)
def test_go_and_rust(name: str, source: str, changes: list[str]) -> None:
    assert seen(mutants_by_token(name, source.encode())) == changes


def mutant(path: str, owner: str, kind: Kind = Kind.RESULT, start: int = 0) -> Mutant:
    return Mutant(path, 1, start, start + 1, "a", "b", kind, tuple(owner.split(".")) if owner else ())


def test_what_tests_name_is_tried_first_and_no_function_takes_all() -> None:
    near = [mutant("a.py", "Cart.add", Kind.NUMBER, 9), mutant("a.py", "Cart.add", Kind.RESULT, 5)]
    near += [mutant("a.py", "Cart.empty", start=20), mutant("a.py", "other", start=30)]
    far = [mutant("b.py", "add", start=1), mutant("b.py", "add", Kind.TEXT, 2)]
    order = chosen([near, far], frozenset({"add", "Cart"}), 20)
    assert [(one.path, one.owner[-1], one.start) for one in order] == [
        ("a.py", "add", 5), ("b.py", "add", 1), ("a.py", "add", 9), ("b.py", "add", 2),
        ("a.py", "empty", 20), ("a.py", "other", 30),
    ]  # fmt: skip
    assert len(chosen([near, far], frozenset(), 3)) == 3


Write = Callable[[dict[str, str]], frozenset[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(files: dict[str, str]) -> frozenset[str]:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return frozenset(files)

    return write


async def reached(root: Path, tests: list[str], files: frozenset[str]) -> list[str]:
    found, _ = await code_under_test(root, tests, files - set(tests))
    return [path for path, _ in found]


async def test_python_imports_are_followed_nearest_first(tmp_path: Path, write: Write) -> None:
    files = write({
        "tests/test_cart.py": "from shop.cart import Cart\nimport shop.money.rates as r\n",
        "src/shop/__init__.py": "\n",
        "src/shop/cart.py": "from . import prices\nfrom .money import pay\n",
        "src/shop/prices.py": "import json\n",
        "src/shop/money/__init__.py": "\n",
        "src/shop/money/pay.py": "from ..stock import left\n",
        "src/shop/money/rates.py": "#\n",
        "src/shop/stock.py": "#\n",
        "src/other.py": "#\n",
        "cart.py": "#\n",
    })  # fmt: skip
    order = await reached(tmp_path, ["tests/test_cart.py"], files)
    assert order[:2] == ["src/shop/cart.py", "src/shop/money/rates.py"]
    assert order.index("src/shop/prices.py") < order.index("src/shop/stock.py") < order.index("cart.py")
    assert set(order) == files - {"tests/test_cart.py"}


async def test_what_no_import_reaches_is_ranked_by_name_and_folder(tmp_path: Path, write: Write) -> None:
    files = write({
        "calc/calc_test.go": "package calc\nfunc TestAdd(t *testing.T) { run(money) }\n",
        "calc/calc.go": "package calc\n", "a/money.go": "package a\n", "a/b.go": "package a\n",
    })  # fmt: skip
    assert await reached(tmp_path, ["calc/calc_test.go"], files) == ["a/money.go", "calc/calc.go", "a/b.go"]


async def test_scripts_are_found_with_and_without_their_endings(tmp_path: Path, write: Write) -> None:
    files = write({
        "web/tests/a.test.ts": "import { a } from '../src/a';\nimport b from '../src/b.js';\n"
        "const c = require('../src/c');\nimport React from 'react';\n",
        "web/src/a.ts": "export * from './d';\n", "web/src/b.ts": " ", "web/src/c/index.js": " ",
        "web/src/d.tsx": " ", "web/src/z.ts": " ",
    })  # fmt: skip
    assert await reached(tmp_path, ["web/tests/a.test.ts"], files) == [
        "web/src/a.ts", "web/src/b.ts", "web/src/c/index.js", "web/src/d.tsx", "web/src/z.ts",
    ]  # fmt: skip


async def test_links_and_long_files_are_not_read(tmp_path: Path, write: Write) -> None:
    files = write({"tests/test_a.py": "import a, b, c\n", "a.py": "x" * 100_001, "c.py": "#\n"})
    (tmp_path / "b.py").symlink_to("/etc/passwd")
    assert await reached(tmp_path, ["tests/test_a.py"], files | {"b.py"}) == ["c.py"]


def test_the_code_is_in_the_tests_language_else_in_any_known() -> None:
    code = frozenset({"a.py", "b.js", "c.go", "d.txt"})
    assert sources_of(["tests/test_a.py"], code) == {"a.py"}
    assert sources_of(["x.test.tsx"], code) == {"b.js"}
    assert sources_of(["tests/data.json"], code) == {"a.py", "b.js", "c.go"}
    assert sources_of(["tests/test_a.py"], frozenset({"a.sh"})) == frozenset()
