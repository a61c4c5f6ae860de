"""The demo: a scripted Claude, a sample project and its plan. It imports nothing of the services."""
