"""Run a data service (HSDS) on Unix sockets in a folder, until standard input ends.

    python scripts/hsds_cluster.py FOLDER [DATA_NODES [quick]]

For tests and `scripts/demo-cluster`. One service node and some data nodes are started in a process
group of their own, on what an earlier run has left in the folder. When writes are answered (the
service says READY before that), one line of JSON is printed: the endpoint, who may do what, and the
processes. Each line of standard input has the names of nodes that have ended: they are started
again, and what there is now is printed when writes are answered. At the end of standard input, or
when the process that started this one dies, the whole group is killed.

The nodes are started as `hsds` itself starts them; `hsds` would give up after 10 s on a busy
machine, and leave them running when it is ended. Never with a host: the service would listen on
all interfaces, whatever it is told.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

USER, ADMIN, BUCKET = "user", "admin", "h5fs"
START_SECONDS = 120
QUICK = {"s3_age_time": 0.1, "s3_sync_interval": 0.1, "flush_sleep_interval": 0.05}
WRITES_IN_A_ROW = 12  # as long as a data node is not ready, one in two or three fails


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    node_count = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    if shutil.which("hsds-node", path=Path(sys.executable).parent) is None:
        sys.exit("hsds is not installed: pip install hsds")
    if os.getpgrp() != os.getpid():
        os.setsid()
    try:
        starts = prepare_nodes(folder, node_count, is_quick=sys.argv[3:] == ["quick"])
        nodes = {name: start() for name, start in starts.items()}
        wait_until_writes_are_answered(folder, nodes)
        print(json.dumps(describe(folder, nodes)), flush=True)
        for line in sys.stdin:
            for name in line.split():
                nodes[name].wait(30)
                nodes[name] = starts[name]()
            wait_until_writes_are_answered(folder, nodes)
            print(json.dumps(describe(folder, nodes)), flush=True)
    finally:
        os.killpg(0, signal.SIGKILL)


Start = Callable[[], "subprocess.Popen[bytes]"]


def prepare_nodes(folder: Path, node_count: int, *, is_quick: bool) -> dict[str, Start]:
    """Return what starts each node, the service node first; each writes its messages to a file."""
    sockets = folder / "s"  # short: the path of a socket has at most 107 bytes
    shutil.rmtree(sockets, ignore_errors=True)  # of a service that has run here before
    for made in (folder / "data" / BUCKET, sockets):
        made.mkdir(parents=True, exist_ok=True)
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    passwords.write_text(f"{ADMIN}:admin-secret\n{USER}:secret\nother:other-secret\n")
    urls = [url_of(sockets / f"dn_{number + 1}.sock") for number in range(node_count)]
    common = [
        "--standalone", f"--dn_urls={','.join(urls)}", "--use_socket",
        f"--hsds_endpoint={url_of(sockets / 'sn_1.sock')}", f"--root_dir={folder / 'data'}",
        "--log_level=ERROR",
    ]  # fmt: skip
    nodes = {"sn_1": ["--node_type=sn", f"--sn_url={url_of(sockets / 'sn_1.sock')}",
                      f"--password_file={passwords}"]}  # fmt: skip
    for number in range(node_count):
        nodes[f"dn_{number + 1}"] = ["--node_type=dn", f"--node_number={number}"]
    program = [sys.executable, str(Path(sys.executable).parent / "hsds-node")]
    environment = {**os.environ, "BUCKET_NAME": BUCKET, "PYTHONUNBUFFERED": "1"}
    if is_quick:
        environment["CONFIG_DIR"] = str(write_quick_settings(folder / "settings"))

    def start(name: str) -> subprocess.Popen[bytes]:
        (sockets / f"{name}.sock").unlink(missing_ok=True)  # of one that was killed
        with (folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*program, f"--log_prefix={name} ", *nodes[name], *common],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip

    return {name: partial(start, name) for name in nodes}


def write_quick_settings(folder: Path) -> Path:
    """Write the service's own settings with other times, which it takes as options only whole."""
    text = files("admin.config").joinpath("config.yml").read_text(encoding="utf-8")
    for name, seconds in QUICK.items():
        text, count = re.subn(rf"(?m)^{name}:.*$", f"{name}: {seconds}", text)
        assert count == 1, f"the service has no setting {name}"
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(text, encoding="utf-8")
    return folder


def wait_until_writes_are_answered(folder: Path, nodes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Make the user's folder, and then domains, until some succeed one after another."""
    deadline = time.monotonic() + START_SECONDS
    in_a_row = 0
    while in_a_row < WRITES_IN_A_ROW:
        if time.monotonic() > deadline:
            sys.exit(f"the data service does not answer writes; see {folder}/*.log")
        dead = [name for name, node in nodes.items() if node.poll() is not None]
        if dead:
            sys.exit(f"{dead[0]} has ended; see {folder / dead[0]}.log")
        for path, owner in (("/home", ADMIN), (f"/home/{USER}", USER)):
            request(folder, "PUT", path, ADMIN, {"folder": 1, "owner": owner})
        name = f"/home/{USER}/ready{in_a_row}.h5"
        statuses = [request(folder, method, name, USER) for method in ("PUT", "DELETE")]
        in_a_row = in_a_row + 1 if statuses == [201, 200] else 0
        if not in_a_row:
            time.sleep(0.3)


def request(folder: Path, method: str, domain: str, user: str, body: object = None) -> int:
    """Ask something about a domain; return the status of the answer, 0 when there is none."""
    secret = f"{user}:{'admin-secret' if user == ADMIN else 'secret'}".encode()
    headers = {"Authorization": "Basic " + base64.b64encode(secret).decode()}
    data = None
    if body is not None:
        data = json.dumps(body)
        headers["Content-Type"] = "application/json"
    connection = SocketConnection(folder / "s" / "sn_1.sock")
    try:
        connection.request(method, f"/?domain={domain}&bucket={BUCKET}", data, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def describe(folder: Path, nodes: dict[str, subprocess.Popen[bytes]]) -> dict[str, object]:
    return {
        "endpoint": url_of(folder / "s" / "sn_1.sock"),
        "username": USER,
        "password": "secret",
        "bucket": BUCKET,
        "folder": f"/home/{USER}/",
        "pids": {name: node.pid for name, node in nodes.items()},
    }


def url_of(path: Path) -> str:
    return "http+unix://" + os.fspath(path).replace("/", "%2F")


if __name__ == "__main__":
    main()
