"""PLACEHOLDER until the helper's lands."""
import ctypes
import os
import signal


def die_with_parent(parent_pid: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
