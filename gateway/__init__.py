"""The lead's RPCs for browsers and programs: HTTP with JSON, SSE, and the old WebSocket frames."""
