"""codeframe: runs a plan of coding tasks on a git repository, and tells of every status change.

This package is what the distribution installs: the generated API (`codeframe.v1`), the client and
the command line. The servers live beside it in the checkout, in `services/` and `gateway/`.
"""
