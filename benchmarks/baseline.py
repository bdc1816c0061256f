"""What must not get slower unseen: ratios of CPU times, which differ less between days and machines than times do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks import http, search, towers
from benchmarks.blocks import Progress
from benchmarks.conditions import commit, machine
from benchmarks.floors import EMPTY_FASTAPI
from benchmarks.report import BenchResult, Row
from index.generations import open_current
from service.client import ClientError

BASELINE = Path(__file__).with_name("baseline.json")
WORSE = 0.30  # the share by which a ratio may grow
BLOCKS, CALLS = 12, 200
# Numerator, denominator: rows of `bench http` and `bench search`, engines of `bench towers`.
OVER_HTTP = ((http.LIVEZ, EMPTY_FASTAPI), (http.FIRST, EMPTY_FASTAPI), (http.LATER, EMPTY_FASTAPI))
IN_PROCESS = (
    (search.FEATURISER, search.TOWER),
    (search.FIRST, search.TOWER),
    (search.LATER, search.FIRST),
)
ENGINES = (("ONNX fused", "ONNX plain"), ("ONNX fused", "TorchScript tuned"))
TOKENS, TABLE_ROWS = 8, 20_000  # of the tower that the engines run, and whose weights are random


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Ratios that were once measured, and on what."""

    products: int
    cpu: str
    commit: str
    ratios: dict[str, float]


class Compared(NamedTuple):
    """One ratio now and then; None: the baseline does not have it."""

    name: str
    ratio: float
    baseline: float | None

    @property
    def change(self) -> float | None:
        """The share by which it grew; negative: it is better."""
        return None if self.baseline is None else self.ratio / self.baseline - 1

    @property
    def worsened(self) -> bool:
        return self.change is not None and self.change > WORSE


def measure(release: Path, catalogue: Path, *, progress: Progress | None = None) -> Baseline:
    """Measure every ratio with golden queries, in a minute or two.

    Raises:
        ReleaseError, NotReadyError, ClientError: as `bench http` and `bench search`.
    """
    served = http.run(release, catalogue, layouts=["one-core"], blocks=BLOCKS, calls=CALLS, progress=progress)
    inside = search.run(release, catalogue, blocks=BLOCKS, calls=CALLS, progress=progress)
    return Baseline(
        products=open_current(catalogue, verify=False).manifest.count,
        cpu=machine().cpu,
        commit=commit(),
        ratios={
            **ratios("server CPU", OVER_HTTP, _cpu(served, "server_cpu_us")),
            **ratios("CPU", IN_PROCESS, _cpu(inside, "cpu_us")),
            **ratios("query tower CPU", ENGINES, _engines()),
        },
    )


def ratios(what: str, pairs: Sequence[tuple[str, str]], cpu_us: Mapping[str, float]) -> dict[str, float]:
    """By name; pairs of which one was not measured are left out."""
    return {
        f"{what}: {above} / {below}": cpu_us[above] / cpu_us[below]
        for above, below in pairs
        if above in cpu_us and below in cpu_us
    }


def compare(now: Baseline, then: Baseline) -> list[Compared]:
    """Every ratio beside the baseline's.

    Raises:
        ClientError: the two are of catalogues of different sizes, or a ratio of the baseline was not measured.
    """
    if now.products != then.products:
        raise ClientError(
            f"the baseline is of {then.products:,} products, this catalogue has {now.products:,}: "
            "compare with the sample of `make run`, or set a new baseline with --update"
        )
    if missing := sorted(then.ratios.keys() - now.ratios.keys()):
        raise ClientError(f"{missing[0]} was not measured; set a new baseline with --update")
    return [Compared(name, ratio, then.ratios.get(name)) for name, ratio in now.ratios.items()]


def result(compared: Sequence[Compared]) -> BenchResult:
    """For a terminal, and for machines."""
    worsened = [each.name for each in compared if each.worsened]
    verdict = (
        f"worse by more than {WORSE:.0%}: {'; '.join(worsened)}" if worsened else f"none worse by more than {WORSE:.0%}"
    )
    return BenchResult(
        bench="check",
        title="Ratios of CPU times beside the baseline",
        rows=[_row(each) for each in compared],
        conditions={"commit": commit()},
        notes=[verdict],
    )


def load(path: Path = BASELINE) -> Baseline:
    """Raises ClientError where there is none, or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except (OSError, msgspec.DecodeError) as exc:
        raise ClientError(f"cannot read the baseline {path}: {exc}; set one with `bench check --update`") from exc


def save(baseline: Baseline, path: Path = BASELINE) -> None:
    """Rounded: the digits behind are noise."""
    rounded = {name: round(ratio, 3) for name, ratio in baseline.ratios.items()}
    kept = msgspec.structs.replace(baseline, ratios=rounded)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def _row(compared: Compared) -> Row:
    change = "-" if compared.change is None else f"{compared.change:+.0%}"
    return {"name": compared.name, "ratio": compared.ratio, "baseline": compared.baseline, "change": change}


def _cpu(measured: BenchResult, column: str, *, by: str = "name") -> dict[str, float]:
    return {str(row[by]): value for row in measured.rows if isinstance(value := row.get(column), float)}


def _engines() -> dict[str, float]:
    """CPU time by engine, of the paper's size of tower."""
    measured = towers.run(
        pieces=TABLE_ROWS,
        trigram_rows=TABLE_ROWS,
        sizes=towers.SIZES[:1],
        tokens=(TOKENS,),
        blocks=BLOCKS,
        calls=CALLS,
    )
    return _cpu(measured, "cpu_us", by="engine")
