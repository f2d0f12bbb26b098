"""The channels of a network's input: one kind a file, listed in `registry`."""
