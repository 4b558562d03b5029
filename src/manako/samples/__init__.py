"""Data that Manako makes itself: small forms composed of real scans, with questions about them.

`scans` loads and splits the scans, `pictures` composes and encodes forms, `questions` says what is
asked and what is right, `plans` decides which form gets which questions, `forms` writes the files.
"""
