"""The public API, generated from `protos/codeframe/v1/` by `make proto`. Never edited by hand."""
