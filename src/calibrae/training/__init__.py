"""Fit, checkpoint, resume, calibrate."""
