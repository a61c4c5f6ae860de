"""Measurements on real processes, printed and judged by ratios. Not part of the distribution."""
