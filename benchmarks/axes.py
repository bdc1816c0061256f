"""Axes that several pictures share."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

CURVE = [100 * (1 - 10 ** (-step / 20)) for step in range(81)]  # 0 to 99.99, twenty for each tenth of what is left
_TICKS = (0, 50, 90, 99, 99.9, 99.99)


def label_logarithmic(axis: Axis, form: str = "{x:,.0f}") -> None:
    """Plain numbers at 1, 2 and 5 of each power of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(form)
    axis.set_minor_formatter(NullFormatter())


def over_percentiles(axes: Axes, title: str) -> None:
    """Milliseconds over percentiles, the tail stretched: each step right is a tenth of the calls before."""
    axes.set(title=title, xlabel="percentile", ylabel="milliseconds", xscale="log", yscale="log")
    axes.xaxis.set_major_locator(FixedLocator([place(tick) for tick in _TICKS]))
    axes.set_xticklabels([f"{tick:g}" for tick in _TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    label_logarithmic(axes.yaxis, "{x:g}")
    axes.grid(alpha=0.3)


def place(percentile: float) -> float:
    """Where a percentile below 100 stands on the axis of `over_percentiles`."""
    return 1 / (1 - percentile / 100)
