"""The gateway: the lead's RPCs as HTTP/JSON, server-sent events and a WebSocket."""
