"""The guardian: a tiny process beside the supervisor, for the moment in which that one is killed.

It is told of each child, on a pipe that ends with the supervisor. Should that happen without a word, it gives the
children a few seconds to end, kills those that do not (C code hears nothing else), and turns into `aftermath`, which
gives back what they held. (The kernel's parent-death signal would kill them at once, with no word to their jobs, and is
bound to the thread that started them.)

Run as a file, by an interpreter that imports nothing by itself, and not even the rest of pyqik: it must stay small.
`guard` is the supervisor's side.
"""

from __future__ import annotations

import os
import signal
import sys
import time

#: Seconds that the children of a killed supervisor have to end by themselves: a little more than they take.
PATIENCE = 2.5
#: Seconds between two looks at whether they have.
GLANCE = 0.05
#: What is meant for the supervisor, and comes here too: from a terminal, or to each process of a unit.
IGNORED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2")

#: A child: its process id, when that process began (see `birth`), and its name in the Web UI.
Child = tuple[int, str, str]


def birth(pid: int) -> str:
    """When a process began, in the kernel's own words: with its id, this names one process for ever.

    Empty if it has ended, or if the system does not tell.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in b"ZX" else fields[19].decode()


def is_alive(child: Child) -> bool:
    """Whether it has not ended yet. Where there is no /proc, another process might be taken for it."""
    pid, born, _ = child
    if born:
        return birth(pid) == born
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def kill(child: Child) -> None:
    """SIGKILL to this process, and to no other that might get its id in this moment."""
    try:
        handle = os.pidfd_open(child[0])
    except (AttributeError, OSError):
        handle = -1
    try:
        if not is_alive(child):
            return
        if handle >= 0:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        else:
            os.kill(child[0], signal.SIGKILL)
    except OSError:
        pass  # It has ended.


def listen(fileno: int) -> tuple[str, list[Child]] | None:
    """Read what the supervisor tells until it ends: the settings for the aftermath, and the children that are left.

    None if it said that everything is in order.
    """
    settings, children, unread = "", {}, b""
    while data := os.read(fileno, 65536):
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "settings":
                settings = rest
            elif word == "child":
                pid, born, identity = rest.split(" ", 2)
                children[int(pid)] = (int(pid), born, identity)
            elif word == "gone":
                children.pop(int(rest), None)
            elif word == "end":
                return None
    return settings, list(children.values())


def end(children: list[Child]) -> list[Child]:
    """See the children to their end; those that had to be killed."""
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(GLANCE)
    killed = [child for child in children if is_alive(child)]
    for child in killed:
        kill(child)
    while any(map(is_alive, killed)):
        time.sleep(GLANCE)
    return killed


def main(fileno: int, aftermath: list[str]) -> None:
    """Guard, until the supervisor ends. `aftermath` is the command to turn into if that was not in order."""
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    heard = listen(fileno)
    if heard is None or not heard[1]:
        return
    settings, children = heard
    killed = end(children)
    lines = [settings, *(f"{'killed' if child in killed else 'ended'} {child[2]}" for child in children)]
    # Not on the command line, which everybody can read: there may be a password in it.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.write(writing, "\n".join(lines).encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.execv(aftermath[0], aftermath)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
