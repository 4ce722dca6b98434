"""Bounds, closed-form floors and summaries: numbers that can be compared."""
