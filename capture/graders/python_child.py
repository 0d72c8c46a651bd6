"""The process that a `python` grader's code runs in: it limits itself, then grades one JSON line after another.

Run as `python -I -S FILE` with an empty environment; imports nothing of ours. What it forbids (files outside Python's
own, sockets, processes) is forbidden once more by the limits of the operating system where there are such.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import sys
import sysconfig
from collections.abc import Callable
from typing import Any

NEW_USER, NEW_NET = 0x10000000, 0x40000000
FORBIDDEN: tuple[str, ...] = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.kill",
)
FORBIDDEN += ("pty.", "ctypes.", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod")
FORBIDDEN += ("os.listdir", "os.scandir", "os.truncate", "os.putenv", "signal.", "_posixsubprocess.")
OWN = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sys.base_prefix + "/lib"})


def limit(cpu_s: int, memory_bytes: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).unshare(NEW_USER | NEW_NET)  # no network, where the system permits it
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        reading = not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if reading and isinstance(path, str) and os.path.normpath(path).startswith(OWN):
            return
        raise PermissionError("a grader opens no files")
    if event.startswith(FORBIDDEN):
        raise PermissionError(f"a grader may not do this: {event}")


def answer(grade: Callable[..., Any], line: bytes) -> dict[str, Any]:
    try:
        value = grade(**json.loads(line))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return {"error": "grade() must return a finite number"}
        return {"score": float(value)}
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is its own affair; exits too
        return {"error": type(error).__name__}


def main() -> None:
    wire_in, wire_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    task = json.loads(wire_in.readline())
    limit(task["cpu_s"], task["memory_bytes"])
    names: dict[str, Any] = {"__name__": "grader"}
    sys.addaudithook(forbid)
    try:
        exec(compile(task["source"], "grader", "exec"), names)  # noqa: S102 - what this process is for
        grade = names["grade"]
    except BaseException as error:  # noqa: BLE001 - likewise
        failed = type(error).__name__
        grade = None
    for line in wire_in:
        said = {"error": f"the source failed: {failed}"} if grade is None else answer(grade, line)
        wire_out.write(json.dumps(said).encode() + b"\n")


main()
