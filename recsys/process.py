"""Run a command that the kernel kills when its parent dies: `python -m recsys.process PARENT COMMAND…`.

So a job never outlives its scheduler, a training process never its job, and a worker of the service never the process
that started it, even when the parent is killed by SIGKILL. PARENT is the parent's process id: a different parent shows
that it died before the request to the kernel.
"""

import ctypes
import os
import signal
import sys

LAUNCHED = "RECSYS_LAUNCHED"  # environment variable of the command: its process id, for its children

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: str | None) -> None:
    """Ask the kernel to kill this process when its parent dies; exit at once when `parent` has died already.

    parent: a process id; None: the present parent. Raises OSError when the kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if parent is not None and os.getppid() != int(parent):
        sys.exit()


def main() -> None:
    """Ask for the signal and become the command. The signal and the process id survive the exec."""
    parent, *command = sys.argv[1:]
    end_with_parent(parent)
    os.environ[LAUNCHED] = str(os.getpid())
    os.execv(command[0], command)  # noqa: S606  (a list, no shell: nothing to inject)


if __name__ == "__main__":
    main()
