"""A worker process: reads tasks from its socket, does them in order, sends what comes out.

Started with `python -c`, not by fork (threads of torch would not survive) and not by
`multiprocessing` (which would import the user's script again): it imports only this room and what
the pickled callables need. It ends when its socket ends, or within a second when its parent is
gone.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
from typing import Any

from manako.core.errors import ManakoError, WorkerError
from manako.data.wire import receive_blocking, send

PARENT_CHECK_SECONDS = 1.0
NOT_STARTED = -1
"""In place of a task's number: the worker could not open what it was handed."""


def main(socket_descriptor: int, workbench_descriptor: int, parent: int) -> None:
    """Serve until the loader closes its end."""
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    sock = socket.socket(fileno=socket_descriptor)
    try:
        workbench = _read_pickle(workbench_descriptor)
    except Exception as error:  # noqa: BLE001 - told to the loader, which raises it
        _try_to_send(sock, (NOT_STARTED, _as_told(error, "opening what it was handed")))
        return
    while True:
        try:
            ticket, task = receive_blocking(sock)
        except (EOFError, ConnectionError):
            return
        if not _try_to_send(sock, (ticket, _outcome(workbench, task))):
            return


def _outcome(workbench: Any, task: Any) -> Any:
    try:
        return workbench.do(task)
    except ManakoError as error:
        return error
    except Exception as error:  # noqa: BLE001 - told to the loader, which raises it
        return _as_told(error, "doing its task")


def _as_told(error: Exception, where: str) -> WorkerError:
    return WorkerError(
        f"a worker failed {where}: {type(error).__name__}: {error}",
        next_step="sources, measure and encode must come from importable modules; or set "
        "dataloader_num_workers: 0",
    )


def _try_to_send(sock: socket.socket, message: Any) -> bool:
    try:
        send(sock, message)
    except ConnectionError:
        return False
    return True


def _read_pickle(descriptor: int) -> Any:
    size = os.fstat(descriptor).st_size
    with os.fdopen(descriptor, "rb", closefd=True) as file:
        return pickle.loads(os.pread(file.fileno(), size, 0))  # noqa: S301 - from our parent


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
