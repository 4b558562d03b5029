"""Mechanics that several families use; facts of one family stay in its own file."""
