"""One file per probe, each exporting `PROBE`; nothing heavy is imported before `look` is called."""
