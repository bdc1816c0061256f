"""Every part of the training, switched on by configuration: it trains, and killed and resumed it ends the same."""

from pathlib import Path

import pytest

from models.config import load_config
from models.data.schema import Dataset
from models.errors import ConfigError
from models.training.checkpoint import Evaluation
from models.training.run import Run, record
from models.training.train import train
from tests.helpers import SMALL_CONFIG

PARTS = {
    "two stages": "[curriculum]\nepochs = 2\npatience = 9\n",
    "scaled BCE": "[curriculum]\nepochs = 1\nloss = {type = 'bce', negatives = 2}\n",
    "mined negatives": "[mining]\nstage = 1\nfirst_rank = 11\nlast_rank = 40\neasy_per_hard = 20\n",
    "class head": "[classification]\nleast_pairs = 2\n",
    "grouped blending": "[blending]\nprobe_steps = 2\n",
    "single blending, estimated again": "[blending]\ngroups = 'single'\nweights = 'online'\nprobe_steps = 1\n",
    "adaptive margin": "[train.loss]\ntype = 'adaptive_margin'\ntrainable = true\n",
    "adaptive temperature": "[train.loss]\ntype = 'adaptive_softmax'\n",
    "adap-tau": "[train.loss]\ntype = 'adap_tau'\n",
    "mixed negatives": "[train.loss]\ntype = 'mixed_softmax'\nhardest = 4\n",
    "difficulty": "[train.loss]\ntype = 'difficulty_softmax'\n",
    "accumulation": "",
    "concatenation": "",
    "sum, separate encoders, all channels": "",
}


class Killed(Exception):
    """Raised by a reporter to end a run as a signal would."""


def configuration(folder: Path, part: str) -> Path:
    text = SMALL_CONFIG.replace("[model]\ndim = 32", "[model]\ndim = 32\nfusion = 'FUSION'\nEXTRA")
    text = text.replace("FUSION", part if part == "concatenation" else "sum" if "sum" in part else "attention")
    channels = "['title_text', 'title_trigram', 'description_text', 'image', 'language', 'country']"
    separate = f"shared_encoder = false\ndocument_channels = {channels}"
    text = text.replace("EXTRA", separate if "separate" in part else "")
    if part == "accumulation":
        text = text.replace("batch = 64", "batch = 64\nchunk = 9")
    if "curriculum" in PARTS[part]:
        text = text.replace("curriculum = false\n", "")
        text = text.replace("least_gain = 0.0", "least_gain = 1.0\npatience = 1")  # converged at the second look
    path = folder / "part.toml"
    path.write_text(text + PARTS[part])
    return path


@pytest.mark.parametrize("part", PARTS)
def test_a_part_trains_and_resumes_to_the_same_metrics(part: str, dataset_dir: Path, tmp_path: Path) -> None:
    """Killed in the middle of its second epoch: the same losses and ROC AUCs to 1e-6, and a run that opens."""
    dataset = Dataset.open(dataset_dir)
    config = load_config(path=configuration(tmp_path, part))
    whole = train(dataset, tmp_path / "whole", config)

    def kill(done: int, _most: int, _evaluation: Evaluation | None) -> None:
        if done == 8:  # of ten; the last checkpoint is at seven
            raise Killed

    with pytest.raises(Killed):
        train(dataset, tmp_path / "killed", config, report=kill)
    resumed = train(dataset, tmp_path / "killed", config, resume=True)
    first, second = (record(run.path).position for run in (whole, resumed))

    assert [e.loss for e in first.history] == pytest.approx([e.loss for e in second.history], abs=1e-6)
    assert [e.roc_auc for e in first.history] == pytest.approx([e.roc_auc for e in second.history], abs=1e-6)
    assert first.blending_weights == second.blending_weights
    assert Run.open(resumed.path).config == config
    if part == "two stages":
        assert {1, 2} == {e.stage for e in first.history}


def test_a_class_head_without_labels_is_refused_before_training(dataset_dir: Path, tmp_path: Path) -> None:
    """No query of forty has a thousand pairs: the error names the key and what to do."""
    path = tmp_path / "head.toml"
    path.write_text(SMALL_CONFIG + "[classification]\nleast_pairs = 1000\n")
    with pytest.raises(ConfigError, match=r"classification\.least_pairs=1000.*lower it"):
        train(Dataset.open(dataset_dir), tmp_path / "run", load_config(path=path))
