"""A model of the Hub as a folder in the cache: small files first, then the weights they name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from manako.core.errors import CheckpointError
from manako.hub import cache
from manako.hub.client import Hub, open_hub
from manako.hub.files import Progress, fetch
from manako.hub.repo import COMMIT, Repo, resolve, resolve_cached

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
"""Configuration, tokenizer and template."""
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
SNAPSHOT = re.compile(
    r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})"
)


def fetch_model(
    repo_id: str,
    revision: str | None = None,
    *,
    hub: Hub | None = None,
    check: Callable[[Path], Sequence[str]] = lambda folder: (),
    progress: Progress | None = None,
) -> Path:
    """The folder in the cache that holds a model, or an adapter, whole and checked.

    A commit whose files all lie in the cache is not asked for again. check: is handed the folder
    when its small files are there, and may refuse it before weights are fetched; it says which
    folders a model of this kind may keep its parts in. Raises `CheckpointError` where the
    repository has no weights that could be read, and what `resolve` and `fetch` raise.
    """
    hub = hub or open_hub()
    repo = _known(hub, repo_id, revision, check) or resolve(repo_id, revision, hub=hub)
    folder = fetch(repo, SMALL)
    parts = _parts(repo, check(folder))
    if parts:
        fetch(repo, [path for part in parts for path in _small_files(repo, part)])
    return fetch(repo, _weights(repo, folder, parts), progress=progress)


def origin_of(folder: str | Path) -> tuple[str, str] | None:
    """(`org/name`, commit) of a folder in the cache of this or another machine; None elsewhere."""
    found = SNAPSHOT.search(Path(folder).as_posix())
    return (f"{found['owner']}/{found['name']}", found["commit"]) if found else None


def _known(
    hub: Hub, repo_id: str, revision: str | None, check: Callable[[Path], Sequence[str]]
) -> Repo | None:
    """A commit as the cache knows it, where each file that a model needs is there already."""
    if revision is None or not COMMIT.fullmatch(revision):
        return None
    if cache.read_list(hub, repo_id, "model", revision) is None:
        return None
    repo = resolve_cached(hub, repo_id, revision, "model")
    snapshot = cache.snapshot_of(repo)

    def are_there(names: Iterable[str]) -> bool:
        return all((snapshot / name).is_file() for name in names)

    if not are_there(path for path in _small_files(repo, "") if path.endswith(".json")):
        return None
    parts = _parts(repo, check(snapshot))
    if not are_there(path for part in parts for path in _small_files(repo, part)):
        return None
    return repo if are_there(_weights(repo, snapshot, parts)) else None


def _parts(repo: Repo, folders: Sequence[str]) -> Sequence[str]:
    """Those of `folders` that hold the model's parts; none where the repository is flat."""
    if any(name in repo.files for name in (INDEX, WEIGHTS, ADAPTER)):
        return ()
    has_any = any(path.split("/")[0] in folders for path in repo.files)
    return folders if has_any else ()


def _small_files(repo: Repo, part: str) -> list[str]:
    """Configuration, tokenizer and template in one folder of the repository."""
    inside = [PurePosixPath(path) for path in repo.files]
    return [
        str(path)
        for path in inside
        if str(path.parent) == (part or ".") and any(path.match(kind) for kind in SMALL)
    ]


def _weights(repo: Repo, folder: Path, parts: Sequence[str]) -> list[str]:
    """Names of the files that hold the weights."""
    places = [f"{part}/" for part in parts] or [""]
    return [name for place in places for name in _weights_at(repo, folder, place)]


def _weights_at(repo: Repo, folder: Path, place: str) -> list[str]:
    if place + INDEX in repo.files:
        return [place + name for name in sorted(set(_index(folder / (place + INDEX)).values()))]
    for name in (WEIGHTS,) if place else (WEIGHTS, ADAPTER):
        if place + name in repo.files:
            return [place + name]
    where = f"; of its parts, {place} has none" if place else ""
    raise CheckpointError(
        f"{repo.page} at {repo.commit[:12]} has no {WEIGHTS} and no {INDEX}"
        f"{where or '; ' + _instead(repo)}",
        next_step=f"look for a revision with safetensors: {repo.hub.endpoint}/{repo.page}",
    )


def _index(file: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        return {str(tensor): str(name) for tensor, name in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: no index of weights: {error!r}") from error


def _instead(repo: Repo) -> str:
    """What there is in place of readable weights."""
    kinds = {Path(path).suffix for path in repo.files}
    if kinds & {".bin", ".pt", ".pth"}:
        return "only pickled weights, which are never read"
    if ".gguf" in kinds:
        return "only GGUF, which other runtimes read"
    return "its weights lie in folders" if ".safetensors" in kinds else "it holds no weights"
