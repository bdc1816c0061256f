"""What an epoch begins with: measured on the towers as they are, kept so that a resumed epoch finds it unchanged."""

from pathlib import Path

from torch import nn

from models.config import RunConfig
from models.sections import AdapTau, BlendingConfig, MiningConfig
from models.training.batches import PairBatches
from models.training.blend_weights import estimate_weights
from models.training.checkpoint import Position
from models.training.curriculum import Stage
from models.training.mining import HardNegatives, mine
from models.training.objective import Objective
from models.training.ranks import Ranks

MINED_FILE = "mined.safetensors"


class Measures:
    """Adap-tau's base, the blending weights and the mined hard negatives, each only where the configuration asks."""

    def __init__(
        self,
        out: Path,
        config: RunConfig,
        *,
        learned: nn.ModuleDict,
        batches: PairBatches,
        held_out: PairBatches,
        ranks: Ranks,
    ) -> None:
        self.hard: HardNegatives | None = None
        self._out = out
        self._config = config
        self._towers = learned["towers"]
        self._objective = learned["objective"]
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
                base = measure_adap_tau_base(self._towers, self._batches)
                position.adap_tau_base = self._ranks.agree(base)
            self._objective.adap_tau_base = position.adap_tau_base or math.nan

    def _set_blending_weights(self, config: BlendingConfig, epoch: int, position: Position, *, begun: bool) -> None:
        again = config.weights == "online" and epoch % config.super_epochs == 0 and not begun
        if position.blending_weights is None or again:
            position.blending_weights = self._estimated_weights(config)
        self._objective.weights = position.blending_weights
