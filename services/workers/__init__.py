"""Role workers: attempts, the agent loop, the workspace, verification, evidence."""
