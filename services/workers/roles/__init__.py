"""The roles, as data: prompt, tools, write scope, verification."""
