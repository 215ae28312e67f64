"""Runs rows: each contender and its alternative in turn, A B A B, and judges what came out."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders import Contender, FailedError, SkippedError
from benchmarks.rows import Bench, Row, Sample


@dataclass
class Result:
    """What came of one row with one contender; ``problem`` says why it ended early.

    ``least``, ``compared_least``: see ``Sample``. ``no_floor``: why there are no ``floors``.
    """

    row: Row
    contender: str
    measured: list[float] = field(default_factory=list)
    compared: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    compared_least: list[float] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    no_floor: str = ""
    problem: str = ""
    is_skipped: bool = False

    @property
    def value(self) -> float | None:
        """The measured value that counts."""
        if not self.measured:
            return None
        return max(self.measured) if self.row.takes_largest else statistics.median(self.measured)

    @property
    def alternative(self) -> float | None:
        """The alternative's median."""
        return statistics.median(self.compared) if self.compared else None

    @property
    def ratios(self) -> list[float]:
        """Each run's value against the alternative's that came right after it."""
        pairs = zip(self.measured, self.compared, strict=False)
        return [measured / compared for measured, compared in pairs]

    @property
    def ratio(self) -> float | None:
        """The median of the ratios."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def judged(self) -> float | None:
        """What the bar is for: the value or the ratio."""
        return self.value if self.row.is_absolute else self.ratio

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED``, ``no bar``, ``skipped`` or ``FAILED``."""
        if self.problem:
            return "skipped" if self.is_skipped else "FAILED"
        if self.row.bar is None or self.judged is None:
            return "no bar"
        return "met" if self.judged <= self.row.bar else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """Return everything that is known of it."""
        row = self.row
        return {
            "row": row.key,
            "title": row.title,
            "contender": self.contender,
            "against": row.against,
            "method": row.method,
            "unit": row.unit,
            "measured": self.measured,
            "compared": self.compared,
            "ratios": self.ratios,
            "measured_least": self.least,
            "compared_least": self.compared_least,
            "floors": self.floors,
            "passed_on_by": row.passed_on_by,
            "measured_value": self.value,
            "compared_median": self.alternative,
            "ratio_median": self.ratio,
            "bar": row.bar,
            "aim": row.aim,
            "bar_is_for": "value" if row.is_absolute else "ratio",
            "verdict": self.verdict,
            "problem": self.problem,
        }


def run_rows(
    rows: Sequence[Row], contenders: Sequence[Contender], bench: Bench, *, runs: int
) -> Iterator[Result]:
    """Yield the results of each row, one for each contender, when they are there."""
    for row in rows:
        results = [Result(row, contender.name) for contender in contenders]
        for number in range(1, runs + 1):
            for contender, result in zip(contenders, results, strict=True):
                if not result.problem:
                    _run_pair(result, contender, bench)
                    _tell(result, f"{number}/{runs}")
        yield from results


def _run_pair(result: Result, contender: Contender, bench: Bench) -> None:
    """Measure once and compare once; an error ends the row for this contender only."""
    row = result.row
    try:
        if row.h5fs_only and not contender.is_h5fs:
            raise SkippedError("a matter of h5fs alone")
        measured = row.measure(bench, contender)
        compared = row.compare(bench, contender) if row.compare else None
        if compared and None not in (measured.digest, compared.digest):
            _check_same(measured.digest, compared.digest)
        floor = _find_floor(result, contender, bench)
        result.measured.append(measured.value)
        _append(result.least, measured.least)
        if compared:
            result.compared.append(compared.value)
            _append(result.compared_least, compared.least)
        if floor:
            result.floors.append(floor.value)
    except SkippedError as error:
        result.problem, result.is_skipped = str(error), True
    except (FailedError, OSError, subprocess.SubprocessError) as error:
        if _is_interrupted(error):
            raise KeyboardInterrupt from error
        result.problem = f"{error}" or type(error).__name__


def _find_floor(result: Result, contender: Contender, bench: Bench) -> Sample | None:
    if result.row.floor is None or result.no_floor:
        return None
    try:
        return result.row.floor(bench, contender)
    except SkippedError as error:
        result.no_floor = str(error)
        return None


def _append(values: list[float], value: float | None) -> None:
    if value is not None:
        values.append(value)


def _is_interrupted(error: BaseException) -> bool:
    """Whether it was raised while cleaning up after Ctrl-C."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__context__
    return cause is not None


def _check_same(measured: Any, compared: Any) -> None:
    if measured != compared:
        raise FailedError(f"the data differ: {measured} and {compared}")


def _tell(result: Result, progress: str) -> None:
    """Show how far it is, for those who wait."""
    row = result.row
    said = result.problem
    if not said:
        said = f"{result.measured[-1]:.4g} {row.unit}"
        if result.compared:
            said += f", {row.against}: {result.compared[-1]:.4g} {row.unit}"
    print(f"bench: {row.key} {result.contender} {progress}: {said}", file=sys.stderr, flush=True)
