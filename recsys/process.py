"""Becomes another program that the kernel ends when its parent dies: `python -m recsys.process PARENT COMMAND…`.

So a job never outlives its scheduler and a training never its job, not even one that was killed with -9. PARENT is the
parent's process id: when it has died before we could ask to be told, we are somebody else's child already.
"""

import ctypes
import os
import signal
import sys

LAUNCHED = "RECSYS_LAUNCHED"  # in the environment of the other program: its process id, for its children to know

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: str | None) -> None:
    """Ask the kernel to kill this process when its parent dies, and end it here when that is not `parent` any more.

    None: whoever is the parent now. Raises OSError when the kernel does not do it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if parent is not None and os.getppid() != int(parent):
        sys.exit()


def main() -> None:
    """Ask for the signal, then turn into the command; the signal and the process id survive the exec."""
    parent, *command = sys.argv[1:]
    end_with_parent(parent)
    os.environ[LAUNCHED] = str(os.getpid())
    os.execv(command[0], command)  # noqa: S606  (a list, no shell: nothing to inject)


if __name__ == "__main__":
    main()
