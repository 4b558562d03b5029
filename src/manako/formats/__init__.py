"""Formats of data sets: one file per format, from a source row to a Conversation.

To add one: write `formats/new.py` with a `FORMAT` (`_shared.Format`). Nothing else is edited; the
law tests find the file. `_shared.py` walks folders, loads pictures and keeps what has no column.
"""
