"""Use cases: what the command line, the worker and Slicer call."""
