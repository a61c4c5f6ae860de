"""What leads write for themselves; never part of the public API, and in no wheel."""
