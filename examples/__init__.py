"""Programs that use codeframe from outside: the package `codeframe` alone, or no more than its protos."""
