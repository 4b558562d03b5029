"""`manako datasets`: one file per command."""

from manako.cli.command import FolderGroup

COMMAND = FolderGroup("datasets", key="datasets", package=__name__, order=("list", "show", "mix"))
