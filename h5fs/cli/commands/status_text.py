"""The status of a mount as people read it.

The daemon may be of another version of h5fs: what its answer lacks is not shown, and control
characters in the answer do not reach the terminal.
"""

from __future__ import annotations

import time
from typing import Any

from h5fs.cli.output.sizes import show_count, show_size
from h5fs.errors import show_path

_BOLD, _RED, _DIM, _PLAIN = "\033[1m", "\033[31m", "\033[2m", "\033[0m"
_LABEL_WIDTH = 13
_MOST_MESSAGES = 5
_COLUMNS = ("count", "errors", "p50_us", "p90_us", "p99_us", "max_us")


def show_mount(answer: dict[str, Any], *, has_colors: bool) -> str:
    """Return some lines about a mount, made from a status document that may lack keys."""
    try:
        return _Text(has_colors).mount(_harmless(answer))
    except (AttributeError, KeyError, TypeError, ValueError):
        mountpoint, version = (show_text(answer.get(key)) for key in ("mountpoint", "version"))
        return f"{mountpoint}  (h5fs {version} tells what is not understood)"


def _harmless(value: Any) -> Any:
    """Return a document without control characters, also where a number was to be expected."""
    if isinstance(value, str):
        return show_text(value)
    if isinstance(value, list):
        return [_harmless(each) for each in value]
    if isinstance(value, dict):
        return {key: _harmless(each) for key, each in value.items()}
    return value


class _Text:
    def __init__(self, has_colors: bool) -> None:
        self._has_colors = has_colors

    def mount(self, answer: dict[str, Any]) -> str:
        about = [f"mode {show_text(answer['mode'])}"] if answer["mode"] is not None else []
        about += [f"pid {answer['pid']}", f"up {_show_seconds(answer['uptime_seconds'])}"]
        lines = [f"{self._in(_BOLD, show_text(answer['mountpoint']))}  ({', '.join(about)})"]
        part = f":{answer['part']}" if answer.get("part") else ""
        lines.append(self._line("file", show_text(f"{answer['file']}{part}")))
        if answer["open_files"] is not None:
            lines.append(self._line("open files", str(answer["open_files"])))
        lines += [self._line("drafts", _drafts(answer["drafts"]))] if answer["drafts"] else []
        if answer["uncommitted"]:
            lines.append(self._line("uncommitted", _uncommitted(answer["uncommitted"])))
        if answer.get("log_problem"):
            lines.append(self._line("log", self._in(_RED, show_text(answer["log_problem"]))))
        lines += [self._line("chunk cache", _cache(answer["cache"]))] if answer["cache"] else []
        lines += [self._line("server", _remote(answer["remote"]))] if answer.get("remote") else []
        lines += [self._line("workers", _workers(answer["workers"]))] if answer["workers"] else []
        if answer.get("log"):
            lines.append(self._line("messages", show_text(answer["log"])))
        for message in (answer.get("messages") or [])[-_MOST_MESSAGES:]:
            lines.append(self._line("", self._in(_RED, _message(message))))
        lines += self._quarantined(answer)
        if answer["operations"]:
            lines += self._operations(answer["operations"])
        if answer["problem"] is not None:
            lines.append(self._line("problem", self._in(_RED, show_text(answer["problem"]))))
        return "\n".join(lines)

    def _quarantined(self, answer: dict[str, Any]) -> list[str]:
        shown = answer["quarantined"] or []
        lines = [
            self._line("quarantined" if not index else "", self._in(_RED, _subject(each, answer)))
            for index, each in enumerate(shown)
        ]
        more = (answer["quarantined_count"] or 0) - len(shown)
        return [*lines, self._line("", f"and {more} more")] if more > 0 else lines

    def _operations(self, operations: dict[str, dict[str, Any]]) -> list[str]:
        titles = ("calls", "errors", "p50", "p90", "p99", "max")
        rows = [
            (name, [_show_cell(column, found[column]) for column in _COLUMNS])
            for name, found in operations.items()
        ]
        head = self._in(_DIM, f"  {'operation':{_LABEL_WIDTH}}" + _right(titles))
        lines = [f"  {show_text(name):{_LABEL_WIDTH}}{_right(cells)}" for name, cells in rows]
        return [head, *lines]

    def _line(self, label: str, text: str) -> str:
        return f"  {self._in(_DIM, label.ljust(_LABEL_WIDTH)) if label else ' ' * 13}{text}"

    def _in(self, color: str, text: str) -> str:
        return f"{color}{text}{_PLAIN}" if self._has_colors else text


def _message(found: dict[str, Any]) -> str:
    then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["seconds"]))
    return f"{then} {show_text(found['text'])}"


def _drafts(found: dict[str, Any]) -> str:
    return f"{show_count(found['count'], 'file')}, {show_size(found['bytes'])} written"


def _uncommitted(found: dict[str, Any]) -> str:
    text = f"{show_count(found['changes'], 'change')}, {show_size(found['bytes'])} of data"
    if found["oldest_seconds"] is not None:
        text += f", for {_show_seconds(found['oldest_seconds'])}"
    return f"{text}; log {show_size(found['log_bytes'])}"


def _remote(found: dict[str, Any]) -> str:
    text = f"{found['requests']} requests, {show_size(found['bytes'])} came"
    reads = found["hits"] + found["misses"]
    if reads:
        text += f"; {100 * found['hits'] / reads:.1f}% of {reads} reads from the disk cache"
    if found["in_flight"]:
        text += f"; {found['in_flight']} under way"
    return f"{text}; last error: {found['last_error']}" if found["last_error"] else text


def _cache(found: dict[str, Any]) -> str:
    text = f"{show_size(found['used_bytes'])} of {show_size(found['limit_bytes'])}"
    if found["disk_bytes"]:
        text += f", {show_size(found['disk_bytes'])} on disk"
    if found["hit_rate"] is not None:
        total = found["hits"] + found["misses"]
        text += f"; {found['hit_rate']:.1%} hits ({found['hits']:,} of {total:,})"
    return text


def _workers(found: dict[str, Any]) -> str:
    pids = " ".join(str(int(pid)) for pid in found["pids"])
    text = f"{len(found['pids'])} of {found['usual_count']}"
    replaced = f"; {found['replaced_count']} replaced" if found["replaced_count"] else ""
    return f"{text}{f' (pid {pids})' if pids else ''}{replaced}"


def _subject(found: dict[str, Any], answer: dict[str, Any]) -> str:
    where = "" if found["file"] == answer["file"] else f"{show_text(found['file'])}: "
    return f"{where}{show_text(found['path'])}: {show_text(found['reason'])}"


def _right(cells: tuple[str, ...] | list[str]) -> str:
    return "".join(cell.rjust(10) for cell in cells)


def _show_cell(column: str, value: float) -> str:
    return _show_microseconds(value) if column.endswith("_us") else f"{int(value):,}"


def _show_microseconds(value: float) -> str:
    for limit, divisor, unit in ((1000, 1, "us"), (1e6, 1e3, "ms"), (float("inf"), 1e6, "s")):
        if value < limit:
            shown = value / divisor
            return f"{shown:.0f} {unit}" if shown >= 100 else f"{shown:.3g} {unit}"
    raise ValueError(value)


def _show_seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, hours, days = int(value // 60), int(value // 3600), int(value // 86400)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if not days else f"{days} d {hours % 24} h"


def show_text(text: object) -> str:
    """Return text that harms no terminal, whatever it is."""
    try:
        return show_path(str(text).encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return show_path(str(text).encode("utf-8", "backslashreplace"))
