"""What a sweep of rates found, with its picture: latency against rate."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.axes import label_logarithmic
from benchmarks.tails import TailResult

CURVES = {"p50_us": "P50", "p99_us": "P99", "server_p99_us": "P99 in the server"}


@dataclass(frozen=True, kw_only=True)
class RatesResult(TailResult):
    """Rows by rate, `rate_per_s`; those of Poisson arrivals are the curve."""

    capacity_per_s: float

    def pictures(self) -> dict[str, Figure]:
        return {**super().pictures(), f"{self.bench}-rates": self.against_rate()}

    def against_rate(self) -> Figure:
        """Milliseconds over requests a second, up to the capacity and beyond."""
        rows = [row for row in self.rows if str(row["name"]).startswith("poisson")]
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for column, label in CURVES.items():
            known = [(row["rate_per_s"], value / 1e3) for row in rows if isinstance(value := row.get(column), float)]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", label=label)
        axes.axvline(self.capacity_per_s, color="tab:gray", linestyle="--", label="saturation")
        axes.set(title=self.title, xlabel="requests a second, Poisson", ylabel="milliseconds", yscale="log")
        label_logarithmic(axes.yaxis, "{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
        return figure
