"""Whether new tests notice when the code under test is wrong.

    files, words = await code_under_test(tree, tests, sources)  # nearest first
    mutants = chosen(map(python_mutants, ...), words, 20)       # the likeliest noticed first
    check = await MutationTrial(checker, clock, tell).run(...)  # one at a time, until a new test fails

A mutant is one small change of one file: `==` for `!=`, `return None` for a value, a condition turned
round. Each is tried on a scratch checkout, in the sandbox, until a new test fails on one and passes again
without it. Tests that fail on none would not notice a fault. docs/roles.md says what this proves.
"""

from services.workers.mutation.trial import MutationTrial

__all__ = ["MutationTrial"]
