"""What the sampler tells: one small file, replaced whole."""

from pathlib import Path
from typing import Final

import msgspec

from service.recall_window import Recall

REPORT_FILE: Final = "report.json"


class WatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The sampler's figures, by effort where they have one."""

    recall: dict[str, Recall]
    offline: dict[str, float]  # ann_recall@10 as tuning measured it
    target: dict[str, float]  # that tuning aimed at, or the offline figure where it could not be reached
    read: dict[str, int]  # datagrams by outcome
    quantisation_error: dict[str, float]
    list_imbalance: float | None
    empty_lists: int | None

    def save(self, folder: Path) -> None:
        """Replace the file: who reads sees the old figures or the new ones."""
        beside = folder / f"{REPORT_FILE}.tmp"
        beside.write_bytes(msgspec.json.encode(self))
        beside.replace(folder / REPORT_FILE)


def load_report(folder: Path) -> WatchReport | None:
    """What was saved last; None when nothing was."""
    try:
        return msgspec.json.decode((folder / REPORT_FILE).read_bytes(), type=WatchReport)
    except FileNotFoundError:
        return None
