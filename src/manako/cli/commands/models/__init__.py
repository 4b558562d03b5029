"""`manako models`: one file per command."""

from manako.cli.command import FolderGroup

COMMAND = FolderGroup(
    "models",
    key="models",
    package=__name__,
    order=("list", "show", "compare", "tokens", "recommend", "refresh"),
)
