"""Run folders: what was asked for, what came of it, and the trained model."""
