"""Benchmarks for a machine with CUDA; on a CPU they run at a tiny size."""
