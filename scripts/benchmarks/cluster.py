"""A domain of a data service: h5fs, h5pyd, and plain requests for the same values, in one run.

The plain requests are many at a time and as large as h5fs's, and do nothing with what comes: what
they take is what the service takes. Where h5fs is near to them, no reader could be faster. Requests
are the service's own counts. Seconds of processors tell who was busy: the service's nodes, and who
read (the program, and h5fs's daemon).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.hsds_service import Service, running_service, why_missing
from support.mounts import mounted

_DOMAIN = "/home/user/bench.h5"
_DATASETS = 600
_TIMEOUT_SECONDS = 600

_THROUGH_MOUNT = """
import os, sys, time
import numpy as np
folder, task, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
def walk():
    found, pending = 0, [folder + "/small"]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat()
                found += 1
    return found
start = time.monotonic()
if task == "list" or task == "list twice":
    assert walk() == 600
    start = time.monotonic() if task == "list twice" else start
    assert task == "list" or walk() == 600
elif task == "read":
    assert np.load(folder + "/big.npy").nbytes == size
elif task == "write":
    np.save(folder + "/new.npy", np.arange(size // 8, dtype="f8"))
elif task == "4 KiB":
    with open(folder + "/big.npy", "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        places = np.random.default_rng(1).integers(0, size // 4096, 100)
        start = time.monotonic()
        for at in places.tolist():
            assert len(os.pread(file.fileno(), 4096, 128 + 4096 * at)) == 4096
        print((time.monotonic() - start) / 100)
        sys.exit()
print(time.monotonic() - start)
"""

_THROUGH_H5PYD = """
import os, sys, time
import numpy as np, h5pyd
domain, task, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
mode = "w" if task == "write" else "r"
start = time.monotonic()
domain += "-h5pyd" if task == "write" else ""
with h5pyd.File(domain, mode, bucket=os.environ["HS_BUCKET"]) as file:
    if task == "list":
        assert len([(name, item.shape) for name, item in file["small"].items()]) == 600
    elif task == "read":
        assert file["big"][:].nbytes == size
    elif task == "write":
        file["written"] = np.arange(size // 8, dtype="f8")
    elif task == "4 KiB":
        data = file["big"]
        places = np.random.default_rng(1).integers(0, size // 4096, 100)
        start = time.monotonic()
        for at in places.tolist():
            assert data[512 * at : 512 * at + 512].nbytes == 4096
        print((time.monotonic() - start) / 100)
        sys.exit()
print(time.monotonic() - start)
"""

# The ceiling: nothing but the service, and as many requests at a time as serve it best.
_PLAIN = """
import base64, http.client, os, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote
path, big, size, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
user = f"{os.environ['HS_USERNAME']}:{os.environ['HS_PASSWORD']}".encode()
headers = {"Accept": "application/octet-stream",
           "Authorization": "Basic " + base64.b64encode(user).decode()}
def fetch(start):
    stop = min(start + (1 << 20), size // 8)
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    query = f"domain=/home/user/bench.h5&bucket={os.environ['HS_BUCKET']}&select=" + quote(
        f"[{start}:{stop}]")
    connection.request("GET", f"/datasets/{big}/value?{query}", headers=headers)
    answer = connection.getresponse()
    buffer, count = bytearray(1 << 20), 0
    while got := answer.readinto(buffer):
        count += got
    return count
start = time.monotonic()
with ThreadPoolExecutor(at_once) as threads:
    assert sum(threads.map(fetch, range(0, size // 8, 1 << 20))) == size
print(time.monotonic() - start)
"""


@dataclass(frozen=True)
class _Measure:
    """Seconds of each run, those of processors too, and requests of the first one."""

    seconds: list[float]
    service_cpu: list[float]
    own_cpu: list[float]
    requests: int

    def __str__(self) -> str:
        wall, service, own = map(statistics.median, (self.seconds, self.service_cpu, self.own_cpu))
        cpu = f"processors: the service's {service:.2f} s, the reader's {own:.2f} s"
        return f"{wall:8.4f} s  {self.requests:5d} requests  {cpu}"


def run_cluster(folder: Path, size_mb: int, runs: int) -> int:
    """Run all tasks; return the exit status: 1 when a bar was missed."""
    if why_missing():
        print(why_missing(), file=sys.stderr)
        return 2
    size = size_mb << 20
    with running_service(folder / "c", is_quick=False) as service:
        os.environ.update(service.environment)
        big = _fill(service, size)
        ways = _ways(service, folder, big, size)
        return 0 if all([_run_task(service, task, ways, runs) for task in _BARS]) else 1


_BARS: dict[str, tuple[str, float]] = {
    "list": ("seconds", 2.0), "list twice": ("requests", _DATASETS + 50),
    "read": ("against h5pyd", 0.5), "write": ("against h5pyd", 1.0), "4 KiB": ("seconds", 0.003),
}  # fmt: skip

Way = Callable[[str], tuple[float, float]]
"""Does a task; returns the seconds that it took, and those of processors on this side."""


def _ways(service: Service, folder: Path, big: str, size: int) -> dict[str, Way]:
    socket_path = service.access.socket_path
    assert socket_path is not None

    def through_mount(task: str) -> tuple[float, float]:
        options = ["--mode", "r+"] if task == "write" else []
        with mounted("hdf5:/" + _DOMAIN, options=options) as mount:  # type: ignore[arg-type]
            before = _cpu_of(mount.pid)
            seconds, cpu = _run(_THROUGH_MOUNT, mount.path, task, size)
            return seconds, cpu + _cpu_of(mount.pid) - before

    ways: dict[str, Way] = {"h5fs": through_mount}
    if importlib.util.find_spec("h5pyd") is not None:
        ways["h5pyd"] = lambda task: _run(_THROUGH_H5PYD, _DOMAIN, task, size)
    else:
        print("h5pyd is not installed (pip install h5pyd): no ratios", file=sys.stderr)
    for at_once in (1, 4):
        ways[f"plain, {at_once} at once"] = lambda _task, at_once=at_once: _run(
            _PLAIN, socket_path, big, size, at_once
        )
    return ways


_counted_from = [0]


def begin_counting(service: Service) -> None:
    """Count requests from now on."""
    _counted_from[0] = _count(service)


def _run_task(service: Service, task: str, ways: dict[str, Way], runs: int) -> bool:
    chosen = {
        name: way
        for name, way in ways.items()
        if (task != "list twice" or name == "h5fs")
        and (task == "read" or not name.startswith("plain"))
    }
    measures = {name: _Measure([], [], [], 0) for name in chosen}
    requests: dict[str, int] = {}
    for _ in range(runs):  # in turn, so that a busy moment is everybody's
        for name, way in chosen.items():
            begin_counting(service)
            before = sum(map(_cpu_of, service.pids.values()))
            seconds, cpu = way(task)
            measures[name].seconds.append(seconds)
            measures[name].own_cpu.append(cpu)
            measures[name].service_cpu.append(sum(map(_cpu_of, service.pids.values())) - before)
            requests.setdefault(name, _count(service) - _counted_from[0])
    print(f"{task}:")
    for name in chosen:
        measures[name] = dataclasses.replace(measures[name], requests=requests[name])
        print(f"  {name:18} {measures[name]}")
    return _check(task, measures)


def _check(task: str, measures: dict[str, _Measure]) -> bool:
    kind, bar = _BARS[task]
    own = measures["h5fs"]
    value: float = own.requests
    if kind == "seconds":
        value = statistics.median(own.seconds)
    elif kind == "against h5pyd":
        if "h5pyd" not in measures:
            return True
        pairs = zip(own.seconds, measures["h5pyd"].seconds, strict=True)
        value = statistics.median(mine / others for mine, others in pairs)
    is_met = value <= bar
    print(f"  {kind}: {value:.4g}, bar {bar:g}: {'met' if is_met else 'MISSED'}")
    return is_met


def _fill(service: Service, size: int) -> str:
    """Make the domain; return the id of the large dataset."""
    root = service.ask("PUT", "/", _DOMAIN)["root"]
    group = service.ask("POST", "/groups", _DOMAIN, {"link": {"id": root, "name": "small"}})["id"]
    double = {"class": "H5T_FLOAT", "base": "H5T_IEEE_F64LE"}
    for first in range(0, _DATASETS, 100):
        made = service.ask(
            "POST", "/datasets", _DOMAIN,
            [{"type": double, "shape": [10], "link": {"id": group, "name": f"d{number}"}}
             for number in range(first, first + 100)],
        )  # fmt: skip
        assert len(made["objects"]) == 100
    with mounted("hdf5:/" + _DOMAIN, options=["--mode", "r+"]) as mount:  # type: ignore[arg-type]
        np.save(mount.path / "big.npy", np.random.default_rng(0).random(size // 8))
    links = service.ask("GET", f"/groups/{root}/links", _DOMAIN)["links"]
    big: str = next(link["id"] for link in links if link["title"] == "big")
    return big


def _count(service: Service) -> int:
    told = service.client.get("/info", dict, {})["req_count"]
    return sum(told.get(method, 0) for method in ("GET", "POST", "PUT", "DELETE"))


def _run(program: str, *words: object) -> tuple[float, float]:
    """Return the seconds that a program tells, and those of processors that it took in all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True,
        timeout=_TIMEOUT_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds: float = json.loads(done.stdout)
    return seconds, cpu


def _cpu_of(pid: int) -> float:
    """Return the seconds of processors that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
