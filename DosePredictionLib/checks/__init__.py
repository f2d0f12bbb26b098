"""Checks of a case before a prediction, and of the dose after it; listed in `registry`."""
