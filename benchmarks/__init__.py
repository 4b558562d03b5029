"""Benchmarks: each module is one command, and writes one dated file into `results/`."""
