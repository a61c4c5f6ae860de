"""The scripted Claude: an HTTP server that speaks the Messages API and says what its scripts tell it.

Clients see a real provider: streaming, tool use, usage with cache counters, authentication, request ids,
validation, errors. What it says is read from YAML (docs/scripted-claude.md), chosen by a marker in the task
and the state of the conversation, which is the request itself: a server that was killed and started again
goes on where it was. What it bills outlives it (`bill`).
"""
