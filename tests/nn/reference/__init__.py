"""Slow, plain references of the native networks, for tests alone.

Each was written from published facts (model cards, config files, the rules in the authors' public
code) before the fast code of its family existed. They use numpy in float64 and plain loops, and
import nothing of Manako, so a mistake there cannot repeat itself here. Agreement, block by block
and whole, is asked in `tests/nn/test_<family>.py`; what they must say of themselves in
`tests/nn/test_reference.py`.
"""
