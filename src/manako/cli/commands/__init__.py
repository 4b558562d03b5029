"""One file per command, exporting `COMMAND`; the file's name is the command's. Nothing else is
edited to add one but the texts it shows (`cli/texts.py`) and the list in `tests/cli/`."""
