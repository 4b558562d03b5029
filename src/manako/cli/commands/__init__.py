"""One file per command, exporting `COMMAND`; the file's name is the command's. A command with
commands of its own is a folder of such files. Nothing else is edited to add one but the texts it
shows (a file in `cli/texts/`) and the list in `tests/cli/`."""
