"""Values that every room speaks; imports nothing of the other rooms."""
