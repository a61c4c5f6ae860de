"""Measurements on real processes, printed. Not part of the distribution."""
