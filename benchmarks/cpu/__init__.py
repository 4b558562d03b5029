"""Benchmarks that need no more than a CPU."""
