"""Looks at what other rooms wrote: pages, terminal views, tables and the live line of a run.

Reads Records and files and imports only `core`, so a report opens without torch and years later.

`events` is the writing side: it turns a conversation and its tokens into an event and pictures.
`samples` and `run` write self-contained HTML pages; `terminal` shows one sample; `live` follows a
run; `tables` shapes findings for terminal and `--json`. Shared by them: `texts` (every label in
Japanese and English), `tokens`, `pictures`, `charts`, `figures`, `page`.
"""
