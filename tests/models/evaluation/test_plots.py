import re

import numpy as np
import pytest

from models.evaluation.bootstrap import Estimate
from models.evaluation.plots import (
    SERIES,
    AblationRow,
    Attention,
    ChannelImportance,
    RadiusStudy,
    Spread,
    ablation_dots,
    attention_by_length,
    channel_importance,
    radius_tradeoff,
    strongest_first,
    training_curves,
)
from models.training.checkpoint import Evaluation

LIGHT, DARK = "#ffffff", "#15181b"  # the grounds of the page


def history(*stages: int) -> list[Evaluation]:
    """An evaluation every ten steps, in the stage given."""
    return [
        Evaluation(stage=stage, step=10 * at, epoch=0.1 * at, loss=5.0 / at, roc_auc=0.5 + 0.01 * at, seconds=at)
        for at, stage in enumerate(stages, 1)
    ]


def importance(channel: str, loss: float) -> ChannelImportance:
    found = Estimate(loss, loss - 0.01, loss + 0.01)
    return ChannelImportance("query", channel, zeroed=found, shuffled=found)


def all_pictures() -> dict[str, str]:
    return {
        "curves": training_curves({"one": history(1, 1, 2, 2), "two": history(2, 2, 2)}),
        "attention": attention_by_length(
            Attention(np.arange(1, 4), ["text", "trigram"], np.array([[0.2, 0.8]] * 3), np.array([5, 0, 7]))
        ),
        "importance": channel_importance([importance("text", 0.1), importance("trigram", 0.2)], measure="loss of AUC"),
        "ablation": ablation_dots([AblationRow("full", {"AUC": Spread(0.8, 0.01)}), AblationRow("less", {})]),
        "radius": radius_tradeoff(
            RadiusStudy(
                np.array([0.1, 0.9]),
                np.array([500.0, 0.0]),
                np.array([0.2, np.nan]),
                np.array([1.0, 0.0]),
                np.array([0.5, 0.0]),
                np.array([0.9, np.nan]),
            )
        ),
    }


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_equal_data_give_equal_pictures() -> None:
    """No date, no random id: a report made again is the same bytes."""
    assert all_pictures() == all_pictures()


def test_a_users_matplotlibrc_changes_nothing() -> None:
    """The page's look is the page's."""
    import matplotlib as mpl

    expected = training_curves({"one": history(1, 1)})
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert expected == training_curves({"one": history(1, 1)})


def test_pictures_of_one_page_share_no_id_and_find_their_own() -> None:
    """Each id begins with its picture's name, and everything that is pointed at is there."""
    for name, svg in all_pictures().items():
        ids = re.findall(r'\bid="([^"]*)"', svg)
        pointed_at = re.findall(r'href="#([^"]*)"', svg) + re.findall(r"url\(#([^)]*)\)", svg)

        assert len(ids) == len(set(ids))
        assert all(one.startswith(f"{name}-") for one in ids)
        assert pointed_at
        assert set(pointed_at) <= set(ids)


def test_a_picture_brings_no_ground_no_style_sheet_and_no_address() -> None:
    """It stands on the page's own ground, and its ink is the page's text colour."""
    for svg in all_pictures().values():
        colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))

        assert colours <= set(SERIES)
        assert "currentColor" in svg
        assert "<style" not in svg
        assert "http" not in svg
        assert "font-family" not in svg


@pytest.mark.parametrize("colour", SERIES)
def test_the_series_are_legible_on_a_light_and_on_a_dark_page(colour: str) -> None:
    """WCAG asks of graphics a contrast of 3 to 1."""
    light, own, dark = (luminance(one) + 0.05 for one in (LIGHT, colour, DARK))

    assert light / own >= 3
    assert own / dark >= 3


def test_the_curves_mark_where_stage_2_begins() -> None:
    """A run that never changes its stage has no boundary, whichever stage that is."""
    assert 1 == training_curves({"one": history(1, 1, 2)}).count(">stage 2<")
    assert 0 == training_curves({"one": history(2, 2, 2)}).count(">stage 2<")


def test_names_are_drawn_as_they_are() -> None:
    """A dollar is no formula, a leading underscore hides nothing, markup is text, and any script is allowed."""
    svg = training_curves({"_a$b$": history(1), "<b>&": history(1), "赤い椅子": history(1)})

    for shown in (">_a$b$<", ">&lt;b&gt;&amp;<", ">赤い椅子<"):
        assert shown in svg


def test_a_long_name_is_cut_so_that_the_picture_keeps_its_room() -> None:
    """A hundred letters would leave no place for the dots."""
    svg = ablation_dots([AblationRow("x" * 100, {"AUC": Spread(0.8, 0.01)})])

    assert f">{'x' * 35}…<" in svg


def test_the_strongest_channel_comes_first() -> None:
    """0.2 before 0.1."""
    rows = [importance("text", 0.1), importance("trigram", 0.2)]

    assert ["trigram", "text"] == [row.channel for row in strongest_first(rows, "query")]
