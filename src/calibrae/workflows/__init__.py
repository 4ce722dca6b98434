"""What a user does in one call: fit and look, evaluate a run, draw from it."""
