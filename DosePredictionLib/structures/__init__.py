"""Structures of a case: names, channels of a protocol, and which structure is which channel."""
