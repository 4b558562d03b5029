"""Several processes that train as one: who is who, and every wait for one another.

The gradients of a step are summed once, by hand, when each rank is through with its packs.
`DistributedDataParallel` is not used: it reduces inside `backward`, so every rank would have to
reach the same parameters equally often, and it wraps the model. This way a rank may have pictures
or none, three packs or no pack at all; ranks without a pack add zero; a parameter that no rank
reached has no gradient, as in one process; and the model stays the plain one that is saved. What
it costs: nothing is sent while a step still computes.

Small messages go between CPUs through gloo, gradients through NCCL where they lie on CUDA devices;
every rank has come before NCCL is called, so that it is gloo that notices one that is missing.
Every wait ends after `ddp_timeout` in a `RankError` that names rank, step and what was waited for.
Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from manako.core.errors import InputError, ManakoError, RankError
from manako.data.step import Elsewhere, Share
from manako.train.signals import StopNow, StopRequest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from manako.data.step import Step

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and Accelerate put into the environment of each process."""
BUCKET_BYTES = 64 * 2**20
"""Gradients are sent together up to this size; the copy that this takes is freed at once."""
BEAT_SECONDS = 2.0
LINGER_SECONDS = 10.0
ROLL_CALL_SECONDS = 2.0
"""How long ranks that have lost one another wait for the others' last word."""
STOPPED, GAVE_UP = "stopped", "RankError"
"""Reasons to leave that are no failure of the rank itself."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Launched:
    """Which of how many processes a launcher made this one."""

    rank: int
    size: int


def launched() -> Launched | None:
    """What the environment says; None where this process is the only one.

    Raises `InputError` where it speaks of several and does not say how to find them.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return None
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise InputError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set",
            next_step="start with torchrun or `accelerate launch`, or unset WORLD_SIZE",
        )
    return Launched(rank=int(os.environ["RANK"]), size=int(size))


class Ranks:
    """This process among those that train together; one process alone waits for nobody.

    Methods that take `what` (what is waited for) must be called by all ranks in the same order.
    They raise `RankError` where a rank does not come, and `StopNow` where it was asked to stop
    before training began.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, *, store: Any = None, timeout_seconds: float = 0.0
    ) -> None:
        self.rank = rank
        self.size = size
        self.has_left = False
        self._store = store
        self._timeout_seconds = timeout_seconds
        self._step = 0
        self._beating = False
        self._beat_at = 0.0
        self._silent: Sequence[int] = ()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and talks."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        return Share(rank=self.rank, ranks=self.size)

    def at(self, step: int) -> None:
        """Note the step that begins: errors name it, here and on the other ranks."""
        self._step = step
        if self.size > 1:
            self._say(f"at/{self.rank}", str(step))

    def sum(self, values: Sequence[float], what: str) -> list[float]:
        """The sum over all ranks, value by value, in float64."""
        if self.size == 1:
            return [float(value) for value in values]
        import torch
        from torch import distributed

        tensor = torch.tensor([float(value) for value in values], dtype=torch.float64)
        with self._waiting(what):
            distributed.all_reduce(tensor)
        return tensor.tolist()

    def any(self, flag: bool, what: str) -> bool:
        """Whether `flag` is set on some rank."""
        return self.sum([flag], what)[0] > 0

    def from_first(self, value: int, what: str) -> int:
        """The first rank's value."""
        return int(self.sum([value if self.is_first else 0], what)[0])

    def texts(self, text: str, what: str) -> list[str]:
        """What each rank says, in order."""
        if self.size == 1:
            return [text]
        import torch
        from torch import distributed

        own = text.encode("utf-8")
        sizes = self.sum([len(own) * (rank == self.rank) for rank in range(self.size)], what)
        padded = torch.zeros(int(max(sizes)) or 1, dtype=torch.uint8)
        padded[: len(own)] = torch.frombuffer(bytearray(own or b"\0"), dtype=torch.uint8)[
            : len(own)
        ]
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with self._waiting(what):
            distributed.all_gather(found, padded)
        pairs = zip(found, sizes, strict=True)
        return [bytes(each[: int(size)].tolist()).decode("utf-8") for each, size in pairs]

    def check_same(self, values: Mapping[str, str]) -> None:
        """Raise `InputError` where some rank has another value than the first."""
        told = self.texts(json.dumps(dict(values)), "the settings of all ranks")
        first = json.loads(told[0])
        for rank, text in enumerate(told):
            for name, value in json.loads(text).items():
                if value != first[name]:
                    raise InputError(
                        f"rank {rank} has {name} {value}, rank 0 has {first[name]}",
                        next_step="give every machine the same recipe, data, model and versions",
                    )

    def complete(self, step: Step) -> Step:
        """The step with what its packs on other ranks hold."""
        if self.size == 1:
            return step
        import dataclasses

        own = [step.tokens, step.trained_tokens, len(step.failed)]
        tokens, trained, failed = (int(total) for total in self.sum(own, "the step's packs"))
        elsewhere = Elsewhere(
            tokens=tokens - step.tokens,
            trained_tokens=trained - step.trained_tokens,
            failed=self._failed_elsewhere(step) if failed else (),
        )
        return dataclasses.replace(step, elsewhere=elsewhere)

    def _failed_elsewhere(self, step: Step) -> tuple[tuple[str, str], ...]:
        told = self.texts(json.dumps(step.failed), "the step's refused rows")
        others = [json.loads(text) for rank, text in enumerate(told) if rank != self.rank]
        return tuple((row_id, reason) for failed in others for row_id, reason in failed)

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter], loss: Tensor) -> Tensor:
        """Make every `.grad` the sum over all ranks; the sum of `loss`, float32 []."""
        if self.size == 1:
            return loss
        import torch

        what = "the gradients of all ranks"
        found = self.sum([parameter.grad is not None for parameter in parameters], what)
        reached = [parameter for parameter, count in zip(parameters, found, strict=True) if count]
        for parameter in reached:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        device = parameters[0].device
        total = loss.to(device=device, dtype=torch.float32, copy=True).reshape(1)
        gradients = [parameter.grad for parameter in reached if parameter.grad is not None]
        self.sum_tensors([*gradients, total], what)
        return total[0]

    def sum_tensors(self, tensors: Sequence[Tensor], what: str) -> None:
        """Make each of them the sum over all ranks, where they lie."""
        for bucket in _buckets(tensors):
            self._sum_bucket(bucket, what)

    def _sum_bucket(self, bucket: Sequence[Tensor], what: str) -> None:
        import torch
        from torch import distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        sent = flat if flat.device.type in ("cpu", "cuda") else flat.cpu()
        with self._waiting(what):
            distributed.all_reduce(sent)
        summed = sent.to(flat.device).split_with_sizes([tensor.numel() for tensor in bucket])
        for tensor, values in zip(bucket, summed, strict=True):
            tensor.copy_(values.view_as(tensor))

    def first_then_all(self, work: Callable[[], object], what: str) -> None:
        """The first rank works, however long it takes, then the others, who find what it left on
        the disk. It must call `beat` now and then. One process alone works when it needs to."""
        if self.size == 1:
            return
        if not self.is_first:
            while self.any(False, what):
                pass
            work()
            return
        self._beating = True
        try:
            work()
        finally:
            self._beating = False
        self.any(False, what)

    def in_turn(self, work: Callable[[], Answer], what: str) -> Answer:
        """What `work` returns; the ranks of one machine do it one after another."""
        own, turn, done = int(os.environ.get("LOCAL_RANK", self.rank)), 0, False
        answers: list[Answer] = []
        while not done:
            if turn == own:
                answers.append(work())
            done = self.sum([bool(answers)], what)[0] == self.size
            turn += 1
        return answers[0]

    def beat(self) -> None:
        """The first rank, at work for all, is alive."""
        seconds = min(BEAT_SECONDS, self._timeout_seconds / 4)
        if self._beating and time.monotonic() - self._beat_at > seconds:
            self._beat_at = time.monotonic()
            self.any(True, "the other ranks, while this one works for all")

    def leave(self, error: BaseException) -> None:
        """Tell the others why this rank comes no more."""
        if self.size == 1 or self.has_left:
            return
        self.has_left = True
        kind = STOPPED if isinstance(error, StopNow) else type(error).__name__
        message = getattr(error, "message", "") or str(error)
        self._say(f"left/{self.rank}", json.dumps({"kind": kind, "message": message}))

    def linger(self) -> None:
        """Keep the store, which may live in the first rank's process, until the others have read
        why this one left."""
        deadline = time.monotonic() + LINGER_SECONDS
        awaited = set(range(1, self.size)) - set(self._silent)
        while awaited and time.monotonic() < deadline:
            parted = _within(ROLL_CALL_SECONDS, self._parted)
            awaited = set() if parted is None else awaited - parted
            time.sleep(0.02)

    def _parted(self) -> set[int]:
        ranks = range(self.size)
        return {r for r in ranks if self._read(f"heard/{r}") or self._read(f"left/{r}")}

    def _say(self, key: str, word: str) -> None:
        """Leave word in the store. Where its host hangs or has ended, the next meeting finds out."""
        _within(ROLL_CALL_SECONDS, lambda: self._store.set(key, word))

    @contextlib.contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        """Turn what torch raises into words; torch's errors of this kind are `RuntimeError`s."""
        begun = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            is_late = time.monotonic() - begun >= 0.9 * self._timeout_seconds
            raise self._failure(what, error, is_late=is_late) from error

    @contextlib.contextmanager
    def computing(self, what: str) -> Iterator[None]:
        """Around work that waits for other ranks inside; what fails in the work itself stays what
        it is."""
        begun = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, ManakoError) or not _is_of_the_network(error):
                raise
            is_late = time.monotonic() - begun >= 0.9 * self._timeout_seconds
            raise self._failure(what, error, is_late=is_late) from error

    def _failure(self, what: str, error: RuntimeError, *, is_late: bool) -> BaseException:
        left, silent = _within(2 * ROLL_CALL_SECONDS, self._roll_call) or ({}, None)
        self._silent = silent or ()
        kinds = [word["kind"] for word in left.values()]
        if STOPPED in kinds:
            return StopNow()
        own = [rank for rank, kind in zip(left, kinds, strict=True) if kind != GAVE_UP]
        if own:
            failed, cause = own[0], f"rank {own[0]} has failed: {left[own[0]]['message']}"
        elif silent is None:
            failed, cause = None, "rank 0 or the launcher has ended, or hangs: its store is gone"
        elif silent:
            failed, cause = silent[0], self._of_silent(silent)
        elif left:
            failed, cause = None, f"rank {min(left)} has given up: {left[min(left)]['message']}"
        else:
            failed, cause = None, f"torch says: {error}"
        late = f" within ddp_timeout ({self._timeout_seconds:g} s)" if is_late else ""
        where = f"at step {self._step}" if self._step else "before the first step"
        return RankError(
            f"rank {self.rank} of {self.size} waited {where} for {what}, which did not come{late}; "
            f"{cause}",
            failed_rank=failed,
            next_step="look at what that rank printed, and at its machine's memory; raise "
            "ddp_timeout where a rank may take so long; the same call goes on from the last "
            "checkpoint",
        )

    def _of_silent(self, silent: Sequence[int]) -> str:
        last = []
        for rank in silent:
            heard = self._read(f"at/{rank}")
            last.append(f"rank {rank} " + (f"(last at step {heard})" if heard else "(never seen)"))
        return f"{', '.join(last)}: no answer, killed or hanging"

    def _roll_call(self) -> tuple[dict[int, dict[str, str]], list[int]]:
        """What ranks said when they left, and which have neither left nor answer."""
        self._store.set(f"here/{self.rank}", "1")
        others = [rank for rank in range(self.size) if rank != self.rank]
        left: dict[int, dict[str, str]] = {}
        deadline = time.monotonic() + ROLL_CALL_SECONDS
        while True:
            for rank in others:
                if word := self._read(f"left/{rank}"):
                    left[rank] = json.loads(word)
            silent = [r for r in others if r not in left and not self._read(f"here/{r}")]
            is_explained = any(word["kind"] != GAVE_UP for word in left.values())
            if is_explained or not silent or time.monotonic() > deadline:
                self._store.set(f"heard/{self.rank}", "1")
                return left, silent
            time.sleep(0.05)

    def _read(self, key: str) -> str:
        return self._store.get(key).decode() if self._store.check([key]) else ""


def _is_of_the_network(error: RuntimeError) -> bool:
    """gloo's errors are plain `RuntimeError`s, which name the place in its source."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer | None:
    """What `ask` returns; None where it fails, or has not returned in time (the store's host may
    hang as well)."""
    answers: list[Answer] = []

    def run() -> None:
        with contextlib.suppress(RuntimeError):
            answers.append(ask())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours together, of one dtype, up to `BUCKET_BYTES`."""
    bucket: list[Tensor] = []
    size_bytes = 0
    for tensor in tensors:
        is_full = size_bytes + tensor.nbytes > BUCKET_BYTES
        if bucket and (is_full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size_bytes = [], 0
        bucket.append(tensor)
        size_bytes += tensor.nbytes
    if bucket:
        yield bucket


@contextlib.contextmanager
def open_ranks(timeout_seconds: float) -> Iterator[Ranks]:
    """The ranks that a launcher started, from their meeting to their parting; else one alone.

    Signals are noted and not obeyed before all have parted: a launcher sends SIGTERM as soon as
    one rank has ended, and the others shall still say why. Raises `RankError` where some do not
    come, and `InputError` where the process has a process group of somebody else.
    """
    place = launched()
    if place is None:
        yield Ranks()
        return
    ranks = _join(place, timeout_seconds)
    try:
        with StopRequest():
            try:
                yield ranks
                if not ranks.has_left:
                    ranks.any(False, "the end of the run")
            except BaseException as error:
                ranks.leave(error)
                raise
    finally:
        from torch import distributed

        distributed.destroy_process_group()
        if ranks.has_left and ranks.is_first:
            ranks.linger()


def _join(place: Launched, timeout_seconds: float) -> Ranks:
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if distributed.is_initialized():
        raise InputError(
            "torch.distributed was initialised before training began",
            next_step="leave that to Manako: call it before anything makes a process group",
        )
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    uses_cuda = torch.cuda.is_available() and not on_cpu
    timeout = timedelta(seconds=timeout_seconds)
    try:
        store, _, _ = next(rendezvous("env://", place.rank, place.size, timeout=timeout))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if uses_cuda else "gloo",
            store=PrefixStore("group", store),
            rank=place.rank,
            world_size=place.size,
            timeout=timeout,
        )
    except RuntimeError as error:
        raise RankError(
            f"rank {place.rank} of {place.size} waited before the first step for the other ranks, "
            f"and not all came within ddp_timeout ({timeout_seconds:g} s): {error}",
            next_step="look at what the others printed; MASTER_ADDR and MASTER_PORT must name "
            "rank 0's machine and a free port on it",
        ) from error
    return Ranks(
        place.rank,
        place.size,
        store=PrefixStore("manako", store),
        timeout_seconds=timeout_seconds,
    )
