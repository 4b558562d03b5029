"""Measures a model: exact answers with intervals, beside what it scores without its pictures."""
