"""Golden hashes of the reference processors' pixels, and the script that made them."""
