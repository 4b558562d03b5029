"""A repository at one commit: what it holds, with length and hash of every file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urljoin, urlsplit

from manako.core.errors import HubUnreachableError, InputError, NotOnHubError, WrongBytesError
from manako.hub import cache
from manako.hub.client import Hub, get_json, open_hub

Kind = Literal["model", "dataset"]
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_PAGES = 500
"""Of a file list, a thousand files each."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a commit. hash: sha256 (64 digits) of the content where it lies in LFS, else its
    git blob id (40 digits)."""

    path: str
    size_bytes: int
    hash: str

    @property
    def is_lfs(self) -> bool:
        return len(self.hash) == 64


@dataclass(frozen=True, kw_only=True)
class Repo:
    """A repository, pinned. Everything read through it comes from `commit`.

    id: as the Hub writes it, also where it was asked for by an older name (`asked_id`).
    gated: "" | "auto" | "manual"; None where nobody said, as offline. card: the metadata at the
    head of its README. files: all of them, also those of kinds that are never taken.
    """

    hub: Hub = field(repr=False, compare=False)
    id: str
    asked_id: str
    kind: Kind
    revision: str
    commit: str
    files: Mapping[str, RemoteFile] = field(repr=False)
    gated: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def page(self) -> str:
        """Its address below the endpoint, and its name in messages."""
        return page_of(self.id, self.kind)

    def file(self, path: str) -> RemoteFile:
        """The file of this name. Raises `NotOnHubError` with the nearest names."""
        if found := self.files.get(path):
            return found
        near = difflib.get_close_matches(path, self.files, n=3, cutoff=0.4)
        raise NotOnHubError(
            f"{self.page} has no file {path!r} at {self.commit[:12]}"
            f"{'; the nearest are ' + ', '.join(near) if near else ''}",
            next_step=f"see {self.hub.endpoint}/{self.page}/tree/{self.commit}",
        )


def page_of(repo_id: str, kind: Kind) -> str:
    """`org/name`, or `datasets/org/name`."""
    return f"datasets/{repo_id}" if kind == "dataset" else repo_id


def resolve(
    repo_id: str, revision: str | None = None, *, kind: Kind = "model", hub: Hub | None = None
) -> Repo:
    """The repository at the commit that `revision` (branch, tag, commit; None: main) means now.

    The name is looked up once; offline, in the cache. Raises `InputError` for what is no id,
    `NotOnHubError`, `HubAccessError`, `HubUnreachableError`, or `WrongBytesError` for an answer
    that contradicts itself.
    """
    hub = hub or open_hub()
    revision = revision or "main"
    _check_names(repo_id, revision)
    if hub.is_offline:
        return resolve_cached(hub, repo_id, revision, kind)
    what = page_of(repo_id, kind)
    facts = _facts(hub, repo_id, revision, kind, what)
    commit = _commit_of(facts, revision, what)
    true_id = _text(facts, "id", what)
    _check_names(true_id, revision)
    files = _tree(hub, true_id, kind, commit)
    _check_siblings(facts, files, what)
    return Repo(
        hub=hub,
        id=true_id,
        asked_id=repo_id,
        kind=kind,
        revision=revision,
        commit=commit,
        files=files,
        gated=_gated(facts),
        card=card if isinstance(card := facts.get("cardData"), dict) else {},
    )


def _check_names(repo_id: str, revision: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(
            f"{repo_id!r} is no id on the Hub: {str(error).splitlines()[0]}",
            next_step="an id has the form owner/name, such as Qwen/Qwen2-VL-2B-Instruct",
        ) from error
    parts = revision.split("/")
    if not re.fullmatch(r"[\w.+@/-]+", revision) or any(p.strip(".") == "" for p in parts):
        raise InputError(
            f"{revision!r} is no revision", next_step="give a branch, a tag or a commit"
        )


def _facts(hub: Hub, repo_id: str, revision: str, kind: Kind, what: str) -> Mapping[str, Any]:
    """What the Hub says of a revision; a gated repository may say that much to everybody."""
    url = f"{hub.endpoint}/api/{kind}s/{repo_id}/revision/{quote(revision, safe='')}"
    advice = cache.advice(hub, repo_id, kind, revision)
    found, _ = get_json(hub, url, what, advice=advice)
    if not isinstance(found, dict):
        raise WrongBytesError(f"{what}: expected a JSON object, found {type(found).__name__}")
    return found


def _commit_of(facts: Mapping[str, Any], revision: str, what: str) -> str:
    commit = _text(facts, "sha", what)
    if not COMMIT.fullmatch(commit):
        raise WrongBytesError(f"{what}: sha is {commit!r}, expected the 40 digits of a commit")
    if COMMIT.fullmatch(revision) and commit != revision:
        raise WrongBytesError(f"{what}: asked for commit {revision}, the answer is of {commit}")
    return commit


def _text(facts: Mapping[str, Any], key: str, what: str) -> str:
    value = facts.get(key)
    if not isinstance(value, str) or not value:
        raise WrongBytesError(
            f"{what}: {key} is {value!r} in the Hub's answer, expected a text",
            next_step="check that HF_ENDPOINT speaks the Hub's API",
        )
    return value


def _gated(facts: Mapping[str, Any]) -> str | None:
    value: object = facts.get("gated")
    return "" if value is False else value if isinstance(value, str) else None


def _tree(hub: Hub, repo_id: str, kind: Kind, commit: str) -> dict[str, RemoteFile]:
    """All files of a commit, page by page."""
    what = f"{page_of(repo_id, kind)} (its list of files)"
    url: str | None = f"{hub.endpoint}/api/{kind}s/{repo_id}/tree/{commit}?recursive=true"
    files: dict[str, RemoteFile] = {}
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) == MAX_PAGES:
            raise WrongBytesError(f"{what} does not end: page {len(seen) + 1} leads back")
        seen.add(url)
        entries, headers = get_json(hub, url, what)
        for file in _files_of(entries, what):
            if file.path in files:
                raise WrongBytesError(f"{what} names {file.path!r} twice")
            files[file.path] = file
        url = _next_page(hub, url, headers, what)
    return files


def _next_page(hub: Hub, url: str, headers: Mapping[str, str], what: str) -> str | None:
    """The next page, which must lie at the same endpoint: the token goes along.

    A mirror may hand the Hub's own address through, which is put right.
    """
    from huggingface_hub.utils import fix_hf_endpoint_in_url  # type: ignore[attr-defined]

    found = re.search(r'<([^>]+)>\s*;\s*rel="?next"?', headers.get("link", ""))
    if found is None:
        return None
    target: str = fix_hf_endpoint_in_url(urljoin(url, found[1]), hub.endpoint)
    if urlsplit(target)[:2] != urlsplit(hub.endpoint)[:2]:
        host = urlsplit(target).netloc
        raise WrongBytesError(f"{what} goes on at another host, {host}, which is not followed")
    return target


def _files_of(entries: Any, what: str) -> Iterator[RemoteFile]:
    if not isinstance(entries, list):
        raise WrongBytesError(f"{what}: expected a JSON list, found {type(entries).__name__}")
    for entry in entries:
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind == "file":
            yield _file_of(entry, what)
        elif kind != "directory":
            raise WrongBytesError(f"{what}: {str(entry)[:80]!r} is neither a file nor a folder")


def _file_of(entry: Mapping[str, Any], what: str) -> RemoteFile:
    path, size, lfs = entry.get("path"), entry.get("size"), entry.get("lfs")
    oid = lfs.get("oid") if isinstance(lfs, dict) else entry.get("oid")
    form = SHA256 if isinstance(lfs, dict) else COMMIT
    if (
        not isinstance(path, str)
        or type(size) is not int
        or size < 0
        or not isinstance(oid, str)
        or not form.fullmatch(oid)
        or (isinstance(lfs, dict) and lfs.get("size") != size)
    ):
        raise WrongBytesError(f"{what}: path, size or hash is wrong in {str(dict(entry))[:200]}")
    return RemoteFile(path=path, size_bytes=size, hash=oid)


def _check_siblings(facts: Mapping[str, Any], files: Mapping[str, RemoteFile], what: str) -> None:
    """Two lists of files come from the Hub; what stands in the short one is in the long one."""
    siblings = facts.get("siblings")
    names = {s.get("rfilename") for s in siblings} if isinstance(siblings, list) else set()
    if missing := names - set(files):
        shown = ", ".join(sorted(str(name) for name in missing)[:3])
        raise WrongBytesError(
            f"{what}: its list of files is cut short: {len(missing)} are missing, such as {shown}",
            next_step="run the same command again",
        )


def resolve_cached(hub: Hub, repo_id: str, revision: str, kind: Kind) -> Repo:
    """The repository as the cache knows it, without a question. Raises `HubUnreachableError`."""
    commit = cache.commit_of(hub, repo_id, kind, revision)
    if commit is not None and not COMMIT.fullmatch(commit):
        commit = None
    listed = cache.read_list(hub, repo_id, kind, commit) if commit else None
    files = _cached_files(listed or {})
    if commit is None or not files:
        lack = "its list of files" if commit else f"revision {revision!r}"
        raise HubUnreachableError(
            f"{page_of(repo_id, kind)}: {lack} is not in the cache ({hub.cache}), and offline mode "
            "is on: nothing was asked",
            next_step="unset HF_HUB_OFFLINE for one call, which keeps what is needed",
        )
    return Repo(
        hub=hub,
        id=repo_id,
        asked_id=repo_id,
        kind=kind,
        revision=revision,
        commit=commit,
        files=files,
    )


def _cached_files(listed: Mapping[str, tuple[int, str]]) -> dict[str, RemoteFile]:
    """A list of the cache, which other programs write too; nothing where one entry is no file."""
    files = {
        path: RemoteFile(path=path, size_bytes=size, hash=oid)
        for path, (size, oid) in listed.items()
        if type(size) is int and (SHA256.fullmatch(str(oid)) or COMMIT.fullmatch(str(oid)))
    }
    return files if len(files) == len(listed) else {}
