"""Opens a checkpoint and asks it: pictures and texts in any order, one prompt, many, or a chat."""
