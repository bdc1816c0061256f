"""The command line: help everywhere, errors in one line, results for machines."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from que2search import app

ROOT = Path(__file__).parents[1]


def que2search(*arguments: str | Path, home: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a user does."""
    return subprocess.run(
        [Path(sys.executable).with_name("que2search"), *map(str, arguments)],
        cwd=home,
        env={"PATH": "", "TERM": "dumb", "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def commands(group: Any, *path: str) -> Iterator[list[str]]:
    """The words that name each command and each group of commands below `group`."""
    yield list(path)
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *path, name)


@pytest.mark.parametrize("command", list(commands(get_command(app))), ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})

    assert 0 == result.exit_code, result.output
    assert "Usage:" in result.output


def test_the_installed_command_explains_itself() -> None:
    """Its first page names the groups."""
    result = que2search("--help")

    assert 0 == result.returncode, result.stderr
    assert {"data", "release", "catalogue", "bench"} <= set(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "nowhere"], "nowhere: no such dataset directory"),
        (["evaluate", "--run", "nowhere"], "nowhere is not a run"),
        (["export", "--run", "nowhere"], "nowhere is not a run"),
        (["build", "--release", "nowhere"], "nowhere is not a release"),
        (["tune", "--catalogue", "nowhere"], "nowhere"),
        (["tune", "--radius-loss-first", "0.5"], "got first=0.5, later=0.02"),
        (["search", "dress", "--url", "http://127.0.0.1:9"], "cannot reach http://127.0.0.1:9"),
        (["data", "import", "chorus", "nowhere", "--out", "x"], "nowhere"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(arguments: list[str], says: str, tmp_path: Path) -> None:
    """No traceback for what a user can mend."""
    result = que2search(*arguments, home=tmp_path)

    assert 1 == result.returncode
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert 1 == len(result.stderr.strip().splitlines())


def test_a_wrong_option_is_a_usage_error() -> None:
    result = que2search("train", "--preset", "enormous")

    assert 2 == result.returncode
    assert "enormous" in result.stderr


def test_results_can_be_read_by_machines(tmp_path: Path) -> None:
    """--json writes the dataset's manifest; plain progress lines go to the output, which is no terminal."""
    result = que2search(
        "data", "sample", "--out", tmp_path / "d", "--products", 300, "--json", tmp_path / "out" / "made.json"
    )

    assert 0 == result.returncode, result.stderr
    assert 300 == json.loads((tmp_path / "out" / "made.json").read_text())["counts"]["products"]
    assert "done dataset" in result.stdout


def test_a_killed_build_goes_on_where_it_stopped(release_dir: Path, tmp_path: Path) -> None:
    """Killed behind the first of two chunks: its vectors stay, and the second run embeds the rest alone."""
    from commands.embedding import fill_catalogue
    from index.catalogue import Catalogue
    from models.data.schema import Dataset
    from models.embed import CHUNK
    from models.runtime import open_release
    from tests.helpers import small_dataset

    class Killed(Exception):
        pass

    def kill(_done: int, _total: int) -> None:
        raise Killed

    release = open_release(release_dir)
    dataset: Dataset = small_dataset(tmp_path / "things", products=CHUNK + 60, sessions=1)
    with Catalogue.create(tmp_path / "catalogue") as store:
        with pytest.raises(Killed):
            fill_catalogue(store, dataset, release, kill)
        before = next(store.vectors(release.id)).vectors.copy()

        assert CHUNK == store.vector_count(release.id)

        progress: list[tuple[int, int]] = []
        fill_catalogue(store, dataset, release, lambda done, total: progress.append((done, total)))

        assert CHUNK + 60 == store.vector_count(release.id)
        assert before.tolist() == next(store.vectors(release.id)).vectors[:CHUNK].tolist()
        assert [(CHUNK, CHUNK + 60), (CHUNK + 60, CHUNK + 60)] == progress


def test_home_is_where_defaults_lie(tmp_path: Path) -> None:
    """--home wins over Q2S_HOME and the default `var`; the error names the place looked at."""
    result = que2search("--home", tmp_path / "here", "tune", home=tmp_path)

    assert 1 == result.returncode
    assert f"{tmp_path}/here/catalogue" in result.stderr
    assert "var/catalogue" in que2search("tune", home=tmp_path).stderr


def test_tuning_tells_kinds_of_queries_apart() -> None:
    """How frequent, how long in characters, and from where; what is not known is called so."""
    from commands.judged import strata_of
    from models.runtime import GoldenQuery

    golden = [
        GoldenQuery(query="sofa", country="GB", language="en", stratum="head"),
        GoldenQuery(query="ギターアンプ", stratum="tail"),
        GoldenQuery(query="a lamp for the garden", country="US", language="en", stratum="torso"),
    ]

    assert {
        "frequency": ["head", "tail", "torso"],
        "length": ["1-4", "5-9", "20+"],
        "language": ["en", "unknown", "en"],
        "country": ["GB", "unknown", "US"],
    } == strata_of(golden)


def test_the_radius_is_judged_by_what_the_catalogue_has(tmp_path: Path) -> None:
    """Forty queries rate p0 relevant, p1 not, and a product that is gone: precision rises from 1/2 to 1 above p1."""
    from types import SimpleNamespace

    from commands.judged import judged_queries, judged_radius
    from index.exact import ExactIndex
    from index.radius import RadiusRule
    from models.runtime import Judgement
    from tests.helpers import small_catalogue

    vectors = np.array([[0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    small_catalogue(tmp_path, vectors).close()
    rated = {"p0": 3, "p1": 1, "gone": 3}
    judgements = [
        Judgement(query=f"query {at}", product_id=product, rating=rating)
        for at in range(40)
        for product, rating in rated.items()
    ]
    release = SimpleNamespace(
        judgements=lambda: judgements, embed_query=lambda _text, _country: np.array([1, 0], dtype=np.float32)
    )

    judged = judged_queries(release, tmp_path)
    radius = judged_radius(judged, SimpleNamespace(exact=ExactIndex(vectors)), RadiusRule())

    assert (0.8, 0.8) == (radius.first, radius.later)
    assert (0.5, 40) == (radius.tables[0].rows[0].precision, radius.tables[0].queries)


def test_an_explained_answer_is_shown_with_its_parts() -> None:
    """Either leg's score and rank are columns; what was done for the whole page stands below, a line each."""
    from commands.answers import hits_table, notes_of

    answer = {
        "hits": [
            {
                "score": 0.016393,
                "id": "p1",
                "title": "Lamp [new]",
                "explain": {"vector": {"score": 0.8125, "rank": 1}, "lexical": {"score": 0.0, "rank": None}},
            }
        ],
        "search": {
            "mode": "hybrid",
            "filter": {"condition": "price < 50", "allowed": 1200, "strategy": "lists"},
        },
        "explain": {
            "channel_weights": {"text": 0.75, "trigram": 0.25},
            "corrections": {"lanp": ["lamp", "land"]},
            "fusion": {"vector": 0.5, "lexical": 0.5, "constant": 60},
        },
        "timings_us": {"ann": 80, "total": 400},
    }
    table = hits_table(answer)
    shown = {str(column.header): list(column.cells) for column in table.columns if column.header != "rank"}
    ranks = [list(column.cells) for column in table.columns if column.header == "rank"]

    assert {
        "score": ["0.01639"],
        "cosine": ["0.8125"],
        "BM25": ["0"],
        "id": ["p1"],
        "title": ["Lamp \\[new]"],
        "price": [""],
        "country": [""],
    } == shown
    assert [["1"], ["-"]] == ranks
    assert [
        "mode=hybrid",
        "ann=80us total=400us",
        "filter: price < 50; 1,200 products pass, looked for in the lists that hold them",
        "query tower: text 0.75, trigram 0.25",
        "fusion: vector 0.5, lexical 0.5, constant 60",
        "no product holds 'lanp': looked for lamp and land",
    ] == list(notes_of(answer))


def test_an_answer_that_was_not_explained_is_shown_without_parts() -> None:
    """Nothing about legs, nor about a filter that was not asked for."""
    from commands.answers import hits_table, notes_of

    answer = {"hits": [], "search": {"mode": "vector", "filter": None}, "timings_us": {"total": 400}}

    assert ["score", "id", "title", "price", "country"] == [column.header for column in hits_table(answer).columns]
    assert ["mode=vector", "total=400us"] == list(notes_of(answer))
