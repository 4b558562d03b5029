"""Files from the Hub: pinned to a commit, checked by length and hash, resumable; no torch.

`repo.resolve` turns a name into a commit and a list of files with their hashes; `files.fetch` brings
files into the cache; `ranges.read_range` takes a piece of one; `headers.read_headers` counts
parameters without the weights, on the Hub or in a folder.

What `huggingface_hub` does well is used: its session (and so the user's proxy and certificates), its
token, its cache with its names and locks, so that every other tool finds the files too. What it
leaves open is done here, as read in version 2.4: it compares lengths but no hashes; takes a range
that begins elsewhere; follows a list of files to another host with the token; throws half a file
away when its process ends; waits for as long as a server says; asks for facts without a timeout or a
second attempt; starts its count of attempts anew with every byte. So bytes are transferred here, into
that cache, over plain HTTPS (not through Xet, whose transfers can be neither resumed nor timed from
outside).
"""
