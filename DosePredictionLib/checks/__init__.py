"""Checks of a case before and after a prediction."""
