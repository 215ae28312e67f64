"""The plot for the README: how each row stands to its alternative and to its bar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import format_value
from benchmarks.running import Result

# Okabe and Ito's colours, told apart whatever eyes see them; and a marker each.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_MARKERS = "osD^vP"


def draw(results: Sequence[Result], path: Path, *, subtitle: str) -> None:
    """Draw the ratios (and below them what has a bar of its own), as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ratios = [result for result in results if result.ratio and not result.row.is_absolute]
    absolutes = [result for result in results if result.value and result.row.is_absolute]
    panels = [panel for panel in (ratios, absolutes) if panel]
    if not panels:
        return
    names = list(dict.fromkeys(result.contender for panel in panels for result in panel))
    row_inches = 0.26 + 0.16 * len(names)
    heights = [len(_keys(panel)) * row_inches + 0.6 for panel in panels]
    figure, axes = pyplot.subplots(
        len(panels),
        figsize=(9, 1 + sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        _draw_panel(axis, panel, names)
    figure.suptitle("h5fs beside the alternative", fontweight="bold")
    axes[0, 0].set_title(subtitle, fontsize=8, color="#444444")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 3), frameon=False,
        fontsize=8,
    )  # fmt: skip
    figure.savefig(path, dpi=160, format="png")
    pyplot.close(figure)


def _keys(panel: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.row.key for result in panel))


def _draw_panel(axis: Any, panel: Sequence[Result], names: Sequence[str]) -> None:
    """One line for each row: every run a pale dot, the result a marker, the bar a tick.

    The bars of the plot begin where both take the same time, or at the bar of an absolute row.
    """
    is_absolute = panel[0].row.is_absolute
    keys = _keys(panel)
    height = 0.7 / len(names)
    for result in panel:
        index = names.index(result.contender)
        y = keys.index(result.row.key) + (index - (len(names) - 1) / 2) * height
        colour = _COLOURS[index % len(_COLOURS)]
        scale = (result.row.bar or 1) if is_absolute else 1
        runs = result.measured if is_absolute else result.ratios
        value = (result.judged or 0) / scale
        axis.barh(y, value - 1, height, left=1, color=colour, alpha=0.25, zorder=1)
        axis.plot([run / scale for run in runs], [y] * len(runs), ".", color=colour, alpha=0.4)
        axis.plot(value, y, _MARKERS[index % len(_MARKERS)], color=colour, zorder=4)
        axis.annotate(
            _say(result), (1.01, y), xycoords=axis.get_yaxis_transform(),
            va="center", fontsize=8, color="black", annotation_clip=False,
        )  # fmt: skip
    bars = {result.row.key: result.row.bar for result in panel if result.row.bar is not None}
    axis.plot(
        [1 if is_absolute else bar for bar in bars.values()],
        [keys.index(key) for key in bars],
        linestyle="none", marker="|", markersize=24, markeredgewidth=2.5, color="black", zorder=3,
    )  # fmt: skip
    _label(axis, panel, keys, is_absolute=is_absolute)
    if not is_absolute:
        _explain(axis, names)


def _say(result: Result) -> str:
    row = result.row
    if row.is_absolute:
        return f"{format_value(result.value, row.unit)} of {row.bar:g} {row.unit}"
    return f"{result.ratio:.2f}x"


def _label(axis: Any, panel: Sequence[Result], keys: Sequence[str], *, is_absolute: bool) -> None:
    from matplotlib import ticker

    titles = {
        result.row.key: f"{result.row.key}: {result.row.title}"
        + ("" if is_absolute else f"\nagainst {result.row.against}")
        for result in panel
    }
    axis.set_yticks(range(len(keys)), [titles[key] for key in keys], fontsize=7.5)
    axis.set_ylim(len(keys) - 0.4, -0.6)
    axis.set_xscale("log")
    axis.axvline(1, color="#444444", linewidth=1, zorder=2)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}" + ("" if is_absolute else "x"))
    axis.set_xlabel(
        "share of the bar"
        if is_absolute
        else "\N{LEFTWARDS ARROW} faster than the alternative   (time, as a multiple of its)   "
        "slower \N{RIGHTWARDS ARROW}",
        fontsize=8,
    )
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _explain(axis: Any, names: Sequence[str]) -> None:
    """Add what the legend shows: a marker for each contender, and the bar's tick."""
    for index, name in enumerate(names):
        axis.plot(
            [], [], marker=_MARKERS[index % len(_MARKERS)], color=_COLOURS[index % len(_COLOURS)],
            linestyle="none", label=f"{name}, median (dots: each run)",
        )  # fmt: skip
    axis.plot(
        [], [], linestyle="none", marker="|", markersize=12, markeredgewidth=2.5, color="black",
        label="bar: no further right than this",
    )  # fmt: skip
