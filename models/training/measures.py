"""What an epoch begins with: measured on the towers as they are, kept so that a resumed epoch finds it unchanged."""

import math
from pathlib import Path

import numpy as np
import torch

from models.adaptive_losses import adap_tau_base
from models.config import RunConfig
from models.sections import AdapTau, BlendingConfig, MiningConfig
from models.towers import TwoTowers
from models.training.batches import PairBatches
from models.training.blend_weights import estimate_weights
from models.training.checkpoint import Position
from models.training.curriculum import Stage
from models.training.mining import MinedNegatives, mine
from models.training.objective import Objective
from models.training.ranks import Ranks
from models.training.validation import embed_rows

MINED_FILE = "mined.safetensors"


class Measures:
    """Adap-tau's base, the blending weights and the mined hard negatives, each only where the configuration asks."""

    def __init__(
        self,
        out: Path,
        config: RunConfig,
        *,
        towers: TwoTowers,
        objective: Objective,
        batches: PairBatches,
        held_out: PairBatches,
        ranks: Ranks,
    ) -> None:
        self.hard: MinedNegatives | None = None
        self._out = out
        self._config = config
        self._towers = towers
        self._objective = objective
        self._batches = batches
        self._held_out = held_out
        self._ranks = ranks

    def begin_epoch(self, epoch: int, stage: Stage, position: Position, *, begun: bool) -> None:
        """Measure with the weights that the epoch begins with; one that had `begun` gets what it began with."""
        self._set_adap_tau_base(stage, position, begun=begun)
        if self._config.blending:
            self._set_blending_weights(self._config.blending, epoch, position, begun=begun)
        if self._config.mining and stage.number >= self._config.mining.stage:
            self.hard = self._mined(self._config.mining, stage.first_epoch + epoch, begun=begun)

    def _set_adap_tau_base(self, stage: Stage, position: Position, *, begun: bool) -> None:
        if isinstance(stage.loss, AdapTau):
            if not begun:
                base = _adap_tau_base(self._towers, self._batches)
                position.adap_tau_base = self._ranks.agree(base)
            self._objective.adap_tau_base = position.adap_tau_base or math.nan

    def _set_blending_weights(self, config: BlendingConfig, epoch: int, position: Position, *, begun: bool) -> None:
        again = config.weights == "online" and epoch % config.super_epochs == 0 and not begun
        if position.blending_weights is None or again:
            position.blending_weights = self._estimated_weights(config)
        self._objective.weights = position.blending_weights

    def _estimated_weights(self, config: BlendingConfig) -> list[float]:
        count = 1 + len(self._towers.query.groups) + len(self._towers.document.groups)
        if config.weights == "equal":
            return [1 / count] * count
        train = self._config.train
        found = estimate_weights(
            self._towers,
            self._objective,
            batches=self._batches,
            held_out=self._held_out,
            steps=config.probe_steps,
            optimizer=lambda towers: torch.optim.Adam(towers.parameters(), lr=train.learning_rate),
        )
        return [self._ranks.agree(float(weight)) for weight in found.weights]

    def _mined(self, config: MiningConfig, epoch: int, *, begun: bool) -> MinedNegatives:
        """Mined anew at an epoch's start; kept in a file for a run that is resumed within it."""
        path = self._out / MINED_FILE
        if self._ranks.is_main and not begun:
            mine(
                self._towers,
                self._batches,
                first_rank=config.first_rank,
                last_rank=config.last_rank,
                easy_per_hard=config.easy_per_hard,
                seed=[self._config.seed, epoch],
            ).save(path)
        self._ranks.barrier()
        return MinedNegatives.load(path)


def _adap_tau_base(towers: TwoTowers, batches: PairBatches) -> float:
    """w0 from the training pairs as the towers see them now."""
    query_rows, document_rows = (torch.from_numpy(rows) for rows in batches.pairs.T)
    used, query_places = torch.unique(query_rows, return_inverse=True)  # held-out queries share the table
    return adap_tau_base(
        torch.from_numpy(embed_rows(towers.query, batches.queries, used.numpy())),
        torch.from_numpy(embed_rows(towers.document, batches.documents, np.arange(len(batches.documents)))),
        query_rows=query_places,
        document_rows=document_rows,
    )
