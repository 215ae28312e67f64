"""The system calls that a worker may not make, by name and by argument.

`confinement` says which protections these calls stand for.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import platform
from collections.abc import Iterable, Iterator
from typing import Final

from h5fs.store.worker_process.seccomp import (
    MASKED_EQUAL,
    NOT_EQUAL,
    Condition,
    Rules,
    load_program,
    number_of,
)

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
"""Options of prctl(2)."""


_OTHER_PROGRAMS: Final = "execve execveat fork vfork".split()
_OTHER_PROCESSES: Final = """
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp
    pidfd_open pidfd_getfd pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo
""".split()
# Calls that slow down other processes of the user, or give this process priority over them.
_PRIORITIES: Final = """
    sched_setscheduler sched_setparam sched_setattr sched_setaffinity setpriority ioprio_set nice
""".split()
_SOCKETS: Final = "socket socketpair connect bind listen".split()
_CHANGES_TO_FOLDERS: Final = """
    creat mknod mknodat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2
    link linkat symlink symlinkat truncate truncate64
""".split()
_CHANGES_TO_METADATA: Final = """
    chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat
    utime utimes futimesat utimensat utimensat_time64 setxattr lsetxattr fsetxattr setxattrat
    removexattr lremovexattr fremovexattr removexattrat file_setattr
""".split()
# Calls that exploits of the kernel use, and calls that could go round the other rules (io_uring
# opens files and sockets without a system call for each).
_KERNEL_INTERFACES: Final = """
    io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd
    keyctl add_key request_key open_by_handle_at fanotify_init fanotify_mark
    shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_notify setrlimit acct quotactl quotactl_fd syslog personality
    unshare setns mount umount umount2 pivot_root chroot move_mount mount_setattr
    open_tree open_tree_attr fsopen fsconfig fsmount fspick swapon swapoff reboot
    init_module finit_module delete_module kexec_load kexec_file_load iopl ioperm modify_ldt
    settimeofday clock_settime clock_settime64 clock_adjtime clock_adjtime64 adjtimex
    sethostname setdomainname vhangup lookup_dcookie nfsservctl
""".split()

# libseccomp has names only for calls older than itself; these numbers hold on every architecture.
_NUMBERS_OF_NEWER: Final = {
    "quotactl_fd": 443, "process_mrelease": 448, "fchmodat2": 452, "setxattrat": 463,
    "removexattrat": 466, "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip

_CLONE_THREAD: Final = 0x10000
_INT: Final = 0xFFFFFFFF  # the kernel looks at 32 bits of an int argument, seccomp at 64
_F_SETOWN_EX: Final = 15
# Locks of records and leases, which hold up other programs; HDF5 asks for a shared flock(2).
_LOCKING_COMMANDS: Final = (fcntl.F_SETLK, fcntl.F_SETLKW, 37, 38, fcntl.F_SETLEASE, fcntl.F_NOTIFY)
# TIOCSTI and TIOCLINUX type on the user's terminal; FIOSETOWN and SIOCSPGRP are F_SETOWN again.
_FORBIDDEN_IOCTLS: Final = (0x5412, 0x541C, 0x8901, 0x8902)


def refuse_system_calls(locked: Iterable[int] = ()) -> None:
    """Refuse this process system calls by name, some by what they are asked for; allow all others.

    ``locked``: descriptors whose locks are another process's, too. The process must have given up
    the right to gain privileges. Raises ``OSError``.

    A list of what is allowed would be stricter, but would kill workers with each new version of
    the C library, of Python or of a filter. A refusal is an error, which is what an old kernel or
    a container's own filter would answer too.
    """
    rules = Rules()
    # A signal to itself is how a process aborts.
    for name in ("kill", "tgkill"):
        _refuse(rules, name, Condition(0, NOT_EQUAL, os.getpid()))
    for descriptor in locked:
        _keep_locks(rules, descriptor)
    rules.load()
    # A second filter: of two the kernel takes the stricter answer.
    load_program(compiled_rules())


@functools.cache
def compiled_rules() -> bytes:
    """Return the program of those rules that are the same in every process.

    A process that forks others calls this before: it takes milliseconds. Raises ``OSError``.
    """
    rules = Rules()
    for names in (_OTHER_PROGRAMS, _OTHER_PROCESSES, _PRIORITIES, _SOCKETS, _CHANGES_TO_FOLDERS,
                  _CHANGES_TO_METADATA, _KERNEL_INTERFACES):  # fmt: skip
        for name in names:
            _refuse(rules, name)
    # The arguments of these calls lie in memory, which a filter cannot see. The C library falls
    # back to clone and openat when it is told that these calls do not exist.
    for name in ("clone3", "openat2"):
        _refuse(rules, name, error=errno.ENOSYS)
    for name, condition in _conditions():
        _refuse(rules, name, condition)
    return rules.program()


def _refuse(rules: Rules, name: str, *conditions: Condition, error: int = errno.EPERM) -> None:
    number = number_of(name)
    if number == -1:
        number = _NUMBERS_OF_NEWER.get(name, -1)
    if number != -1:
        rules.refuse(number, error, conditions)


def _keep_locks(rules: Rules, descriptor: int) -> None:
    """Refuse to unlock an open file, also by another number."""
    is_it = _masked(0, _INT, descriptor)
    for name in ("flock", "dup", "dup2", "dup3"):
        _refuse(rules, name, is_it)
    for name in ("fcntl", "fcntl64"):
        for command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
            _refuse(rules, name, is_it, _masked(1, _INT, command))


def _masked(argument: int, mask: int, value: int) -> Condition:
    return Condition(argument, MASKED_EQUAL, mask, value)


def _conditions() -> Iterator[tuple[str, Condition]]:
    # A new process, not a new thread. On s390 the flags are the second argument.
    yield "clone", _masked(int(platform.machine().startswith("s390")), _CLONE_THREAD, 0)
    for name, argument in (("open", 1), ("openat", 2)):
        for mode in (os.O_WRONLY, os.O_RDWR, os.O_ACCMODE):
            yield name, _masked(argument, os.O_ACCMODE, mode)
        for flag in (os.O_CREAT, os.O_TRUNC):
            yield name, _masked(argument, flag, flag)
    # To signal another process by way of a descriptor.
    for name in ("fcntl", "fcntl64"):
        for command in (fcntl.F_SETOWN, _F_SETOWN_EX):
            yield name, _masked(1, _INT, command)
    for name in ("fcntl", "fcntl64"):
        for command in _LOCKING_COMMANDS:
            yield name, _masked(1, _INT, command)
    # An exclusive lock keeps others out. Those that the daemon holds are out of reach: a lock goes
    # with the opening of a file, and a worker that reads has openings of its own; for one that
    # writes see `_keep_locks`.
    yield "flock", _masked(1, fcntl.LOCK_EX, fcntl.LOCK_EX)
    for request in _FORBIDDEN_IOCTLS:
        yield "ioctl", _masked(1, _INT, request)
    # These two options stay as they were set.
    for option in (PR_SET_PDEATHSIG, PR_SET_DUMPABLE):
        yield "prctl", _masked(0, _INT, option)
    yield "prlimit64", Condition(2, NOT_EQUAL, 0)
