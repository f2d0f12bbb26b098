"""Benchmarks; `make bench` runs them all and prints what the README quotes."""
