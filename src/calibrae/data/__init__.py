"""Data of every kind, as integer or float arrays with a stated scale."""
