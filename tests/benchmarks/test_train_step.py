"""A training step is measured in a process of its own; no figure of time is judged."""

import numpy as np
import pytest

from benchmarks import train_step
from benchmarks.random_pairs import DESCRIPTION, TITLE, batches_by_length
from benchmarks.train_process import Training
from models.config import changed, load_config
from models.errors import ConfigError


def test_a_chunked_batch_takes_less_memory() -> None:
    """The same batch whole and in chunks of 16: both count the pairs of their steps."""
    whole, chunked = (
        train_step.run(["tiny"], batch=256, chunk=chunk, steps=1, threads=1).rows[0] for chunk in (256, 16)
    )

    for row in (whole, chunked):
        assert 256 == pytest.approx(row["pairs_per_s"] * row["s_per_step"])
        assert 22 == pytest.approx(row["parameters_millions"], abs=1)  # 3 x 50,000 x 128, 2 x 8,000 x 128, the rest
    assert chunked["peak_rss_gb"] < whole["peak_rss_gb"]


def test_every_part_of_a_training_takes_part() -> None:
    """With blending and the class head: a step moves the class head and the gates."""
    parts = {"blending": {}, "classification": {"labels": 50}, "train": {"batch": 8, "chunk": 4, "threads": 1}}
    training = Training(changed(load_config(preset="ablation"), parts, source="a test"))
    (batch, *_) = batches_by_length(training.documents, batch=8)
    before = {name: parameter.clone() for name, parameter in training.learned.named_parameters()}
    training.step(batch)
    moved = {name for name, parameter in training.learned.named_parameters() if not before[name].equal(parameter)}

    assert {"0.query.fusion.gate.weight", "0.document.fusion.gate.weight", "1.class_head._linear.weight"} <= moved


def test_impossible_sizes_are_refused_before_a_step() -> None:
    """By the configuration's own words."""
    with pytest.raises(ConfigError, match=r"train\.batch"):
        train_step.run(["tiny"], batch=1)


def test_lengths_are_between_what_the_model_reads() -> None:
    """At least [CLS] and a piece, at most the cut; three descriptions in ten are a lone [CLS]."""
    draw = np.random.default_rng(0)
    titles = TITLE.draw(10_000, draw, most=64)
    descriptions = DESCRIPTION.draw(10_000, draw, most=128)

    assert (2, 64) == (titles.min(), titles.max())
    assert 15 == np.median(titles)
    assert 0.3 == pytest.approx((descriptions == 1).mean(), abs=0.02)
    assert 60 == pytest.approx(np.median(descriptions[descriptions > 1]), abs=3)
