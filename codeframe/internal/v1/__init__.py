"""Generated from `protos/codeframe/internal/v1/` by `make proto`. Never edited by hand."""
