"""Headless training on the library's networks, losses and encoding."""
