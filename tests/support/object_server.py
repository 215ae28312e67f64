"""An object server for tests and benchmarks: GET by range, ETags, If-Match, ListObjectsV2, faults.

Runs as a process of its own on 127.0.0.1 and serves the files of a folder: ``/run42.h5`` is a file
at an HTTP server, ``/bucket/run42.h5`` an object of S3's (whose signatures are not looked at).
``ObjectServer`` is the other end: it starts the process, gives it orders and asks for its counts.

What it may be told (``ObjectServer.set``):
``latency`` seconds before each answer; ``bandwidth`` bytes a second on each connection;
``etag`` strong, weak or none; ``if_match`` 0: the header is ignored; ``dated`` 0: no Last-Modified;
``token`` what a URL has to have in it; ``list_fault`` a status for each listing;
``fault`` KIND:COUNT:VALUE: what goes wrong with the next COUNT requests (below, in ``_misbehave``);
``swap`` NAME:N: the file NAME.new is moved over NAME just before request N from now on (0: the next
one) is answered; ``swap_late`` the same, but after the head of that answer and half its body.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

_PIECE_BYTES = 256 * 1024
_NOTHING = {
    "requests": 0, "bytes": 0, "busy_s": 0.0, "in_flight": 0, "most_in_flight": 0, "seen": [],
    "busy_since": 0.0,
}  # fmt: skip
_USUAL = {
    "latency": "0", "bandwidth": "0", "etag": "strong", "if_match": "1", "dated": "1",
    "fault": "", "swap": "", "swap_late": "", "token": "", "list_fault": "",
}  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.lock = threading.Lock()
        self.settings = dict(_USUAL)
        self.counts: dict[str, Any] = json.loads(json.dumps(_NOTHING))

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are what is being tested

    @contextlib.contextmanager
    def counted(self, line: str) -> Iterator[None]:
        with self.lock:
            counts = self.counts  # a request that hangs is no matter of the next test's counts
            counts["requests"] += 1
            counts["seen"].append(line)
            counts["in_flight"] += 1
            counts["most_in_flight"] = max(counts["most_in_flight"], counts["in_flight"])
            if counts["in_flight"] == 1:
                counts["busy_since"] = time.monotonic()
        try:
            yield
        finally:
            with self.lock:
                counts["in_flight"] -= 1
                if not counts["in_flight"]:
                    counts["busy_s"] += time.monotonic() - counts["busy_since"]

    def is_due(self, name: str) -> str:
        """Count down an order ``WHAT:N``; return WHAT when it is due, else an empty text."""
        with self.lock:
            what, _, left = self.settings[name].rpartition(":")
            if not what:
                return ""
            self.settings[name] = f"{what}:{int(left) - 1}" if int(left) else ""
            return what if int(left) == 0 else ""

    def next_fault(self) -> tuple[str, str]:
        """Return kind and value of the fault for this request; an empty kind for none."""
        with self.lock:
            kind, _, rest = self.settings["fault"].partition(":")
            count, _, value = rest.partition(":")
            if not kind or int(count) == 0:
                return "", ""
            self.settings["fault"] = f"{kind}:{int(count) - 1}:{value}"
            return kind, value

    def swap(self, name: str) -> None:
        os.replace(self.folder / f"{name}.new", self.folder / name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *arguments: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        words = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if path.startswith("/__"):
            return self._obey(path[3:], words)
        headers = {name.lower(): value for name, value in self.headers.items()}
        line = json.dumps([self.command, self.path, headers])
        with self.server.counted(line):
            time.sleep(float(self.server.settings["latency"]))
            if name := self.server.is_due("swap"):
                self.server.swap(name)
            if "list-type" in words and self.server.settings["list_fault"]:
                self._refuse(int(self.server.settings["list_fault"]))
            elif "list-type" in words:
                self._list(urllib.parse.unquote(path).strip("/"), words)
            elif self.server.settings["token"] not in self.path:
                self._refuse(403)
            else:
                self._get(urllib.parse.unquote(path).lstrip("/"))

    def _obey(self, order: str, words: dict[str, str]) -> None:
        with self.server.lock:
            if order == "set":
                self.server.settings |= words
            counts = dict(self.server.counts)
            if counts["in_flight"]:
                counts["busy_s"] += time.monotonic() - counts["busy_since"]
            answer = json.dumps(counts).encode()
            if order == "reset":
                self.server.counts = json.loads(json.dumps(_NOTHING))
                self.server.settings = dict(_USUAL)
        self._head(200, {"Content-Length": len(answer)})
        self.wfile.write(answer)

    def _head(self, status: int, headers: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _refuse(self, status: int, **headers: object) -> None:
        body = b"" if self.command == "HEAD" else b"<Error><Message>refused</Message></Error>"
        self._head(status, {"Content-Length": len(body)} | headers)
        self.wfile.write(body)

    def _list(self, bucket: str, words: dict[str, str]) -> None:
        root = self.server.folder / bucket
        prefix, after = words.get("prefix", ""), words.get("continuation-token", "")
        files = sorted(
            str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()
        )  # fmt: skip
        found: dict[str, str] = {}
        for key in files:
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if words.get("delimiter") == "/" and "/" in rest:
                folder = escape(prefix + rest.split("/")[0] + "/")
                found[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                headers = self._describe(root / key, (root / key).stat())
                moment = time.strftime("%FT%TZ", time.gmtime((root / key).stat().st_mtime))
                found[key] = (
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{moment}</LastModified>"
                    f"<ETag>{escape(str(headers.get('ETag', '')))}</ETag>"
                    f"<Size>{(root / key).stat().st_size}</Size></Contents>"
                )
        names = [name for name in sorted(found) if name > after]
        page = names[: int(words.get("max-keys", "1000"))]
        is_cut = len(page) < len(names)
        more = (
            f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_cut else ""
        )
        body = (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{more}"
            f"{''.join(found[name] for name in page)}</ListBucketResult>"
        ).encode()
        self._head(200, {"Content-Type": "application/xml", "Content-Length": len(body)})
        self.wfile.write(body)

    def _describe(self, path: Path, status: os.stat_result) -> dict[str, object]:
        """Return the headers that tell the version of a file."""
        headers: dict[str, object] = {"Accept-Ranges": "bytes"}
        tag = hashlib.md5(f"{path}:{status.st_mtime_ns}:{status.st_ino}".encode()).hexdigest()
        kind = self.server.settings["etag"]
        if kind != "none":
            headers["ETag"] = f'W/"{tag}"' if kind == "weak" else f'"{tag}"'
        if self.server.settings["dated"] == "1":
            headers["Last-Modified"] = email.utils.formatdate(status.st_mtime, usegmt=True)
        return headers

    def _get(self, name: str) -> None:
        path = self.server.folder / name
        kind, value = self.server.next_fault()
        if kind == "status":
            return self._refuse(int(value))
        if kind == "redirect":
            return self._refuse(302, Location=value)
        try:
            file = path.open("rb")
        except (OSError, ValueError):
            return self._refuse(404)
        with file:
            status = os.fstat(file.fileno())
            headers = self._describe(path, status)
            wanted = self.headers.get("If-Match")
            tag = str(headers.get("ETag", ""))
            is_kept = wanted in (None, "*") or (tag in str(wanted) and not tag.startswith("W/"))
            if not is_kept and self.server.settings["if_match"] == "1":
                return self._refuse(412)
            start, stop = 0, status.st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked and kind != "whole":
                start = int(asked[1])
                stop = min(int(asked[2]) + 1 if asked[2] else stop, stop)
                if start >= stop:
                    return self._refuse(416, **{"Content-Range": f"bytes */{status.st_size}"})
                total = int(value) if kind == "total" else status.st_size
                shift = int(value) if kind == "shifted" else 0
                headers["Content-Range"] = f"bytes {start + shift}-{stop - 1 + shift}/{total}"
            headers["Content-Length"] = stop - start
            code = 206 if "Content-Range" in headers else 200
            if kind:
                return self._misbehave(kind, value, code, headers, (file, start, stop))
            self._head(code, headers)
            if self.command != "HEAD":
                middle = (start + stop) // 2
                self._send(file, start, middle)
                if swapped := self.server.is_due("swap_late"):
                    self.server.swap(swapped)
                self._send(file, middle, stop)

    def _send(self, file: BinaryIO, start: int, stop: int) -> None:
        bandwidth = float(self.server.settings["bandwidth"])
        began, first = time.monotonic(), start
        while start < stop:
            size = min(_PIECE_BYTES, stop - start)
            if bandwidth:
                due = began + (start + size - first) / bandwidth
                time.sleep(max(0.0, due - time.monotonic()))
            # Counted before: whoever has got the last byte may ask at once how many there were.
            self._count_bytes(size)
            sent = 0
            try:
                # The kernel copies: sixteen connections at a time cost this process little.
                sent = self.connection.sendfile(file, start, size)
            finally:
                self._count_bytes(sent - size)
            if not sent:
                break
            start += sent

    def _count_bytes(self, count: int) -> None:
        with self.server.lock:
            self.server.counts["bytes"] += count

    def _misbehave(
        self, kind: str, value: str, code: int, headers: dict[str, object],
        body: tuple[BinaryIO, int, int],
    ) -> None:  # fmt: skip
        file, start, stop = body
        cut = min(stop, start + int(value)) if value.isdigit() else stop
        self.close_connection = True
        if kind == "nothing":  # the request is taken, and never answered
            time.sleep(3600)
        if kind == "short":  # fewer bytes than asked for, and a head that agrees with them
            headers["Content-Length"] = cut - start
            headers["Content-Range"] = f"bytes {start}-{cut - 1}/{os.fstat(file.fileno()).st_size}"
        elif kind in ("longer", "endless"):
            headers["Content-Length"] = stop - start + (1000 if kind == "longer" else 10**15)
        elif kind == "chunked":
            del headers["Content-Length"]
        self._head(code, headers)
        self._send(file, start, stop if kind in ("longer", "endless", "total", "shifted") else cut)
        if kind == "drop":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif kind == "stall":  # silence in the middle of the body
            time.sleep(3600)
        elif kind == "longer":
            self.wfile.write(bytes(1000))
        while kind == "endless":
            self.wfile.write(bytes(_PIECE_BYTES))


class ObjectServer:
    """A server process over a folder; leaving the block ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = [sys.executable, "-I", __file__, str(folder)]
        # The server ends with whoever has the other end of its stdin, however that one ends.
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> ObjectServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _ask(self, order: str, **words: object) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)
        with contextlib.closing(connection):
            connection.request("GET", f"/__{order}?{urllib.parse.urlencode(words)}")
            return json.loads(connection.getresponse().read())

    def set(self, **settings: object) -> None:
        """Tell the server how to behave from the next request on."""
        self._ask("set", **settings)

    def counts(self) -> dict[str, Any]:
        """Return requests, bytes, busy seconds and what was asked since the last reset."""
        found: dict[str, Any] = self._ask("counts")
        return found | {"seen": [json.loads(line) for line in found["seen"]]}

    def reset(self) -> None:
        """Count from nothing again, and behave as usual."""
        self._ask("reset")

    def halt(self) -> None:
        """End the server: its port is closed from now on."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":

    def _end_with_stdin() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _server = _Server(Path(sys.argv[1]))
    print(_server.server_address[1], flush=True)
    _server.serve_forever()
