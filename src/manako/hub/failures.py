"""What the Hub's refusals mean: status and X-Error-Code → the error that says what to do."""

from __future__ import annotations

import re

from manako.core.errors import HubAccessError, HubError, NotOnHubError, WrongBytesError

SHOWN = 200
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
BAD_TOKEN = "Invalid credentials in Authorization header"


def said(text: str, token: str | None) -> str:
    """A server's words, safe to print: one short line, without the token."""
    if token:
        text = text.replace(token, "***")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\s]+", " ", text).strip()[:SHOWN]


def error_of(
    status: int, code: str, words: str, *, what: str, hub: str, has_sent: bool
) -> HubError:
    """The error of an answer that no further attempt will change.

    what: what was asked for, its first word the id or file. has_sent: whether a token went along.
    """
    sent = "a token was sent" if has_sent else "no token was sent"
    ending = f" ({words})" if words else ""
    if code == "GatedRepo":
        return gated(what, hub, sent)
    if BAD_TOKEN in words:
        return HubAccessError(
            f"{what}: the token is not valid (status {status})",
            next_step=f"{LOG_IN}; a new token is made at {hub}/settings/tokens",
        )
    if code == "RevisionNotFound":
        return NotOnHubError(
            f"{what}: the repository has no such revision",
            next_step="take a branch, a tag or a commit that its page lists",
        )
    if code == "EntryNotFound":
        return NotOnHubError(
            f"{what}: this revision has no such file",
            next_step="see the files that the page of the repository lists",
        )
    if code == "RepoNotFound" or status in (401, 404):
        return NotOnHubError(
            f"{what}: no such repository, or a private one (status {status}, {sent})",
            next_step=f"check the spelling; for a private one, {LOG_IN}",
        )
    if status == 403:
        return HubAccessError(
            f"{what}: access refused (status 403, {sent}){ending}",
            next_step=f"take a token with the right to read it, then {LOG_IN}",
        )
    if status == 416:
        return WrongBytesError(f"{what}: the server has no such range of bytes (status 416)")
    return HubError(f"{what}: the server answers with status {status}{ending}")


def gated(what: str, hub: str, sent: str) -> HubAccessError:
    """A repository whose owner asks for something first."""
    path = what.split(" ", 1)[0]
    return HubAccessError(
        f"{what} is gated, its owner wants to be asked first ({sent})",
        next_step=f"ask for access at {hub}/{path}, then {LOG_IN}",
    )
