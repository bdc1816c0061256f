"""No pickle is ever read: reading one runs whatever its writer liked."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "index", "service", "commands", "deploy", "benchmarks")
FILES = [ROOT / "que2search.py", *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# `bench towers` reads back, in the process beside it, the module that it has just written into a folder of its own.
ALLOWED = {("benchmarks/tower_engines.py", "torch.load")}


def reads_of_pickles(tree: ast.AST) -> Iterator[str]:
    """What in a module may read a pickle."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in PICKLES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLES:
                yield module
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=keywords):
                if not any(keyword.arg == "weights_only" and is_true(keyword.value) for keyword in keywords):
                    yield "torch.load"
            case ast.keyword(arg="allow_pickle", value=value) if not is_false(value):
                yield "allow_pickle"
            case ast.Attribute(attr="read_pickle" | "from_pickle" as name):
                yield name


def is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle", ["pickle"]),
        ("from joblib import load", ["joblib"]),
        ("torch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=False)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("np.load(path, allow_pickle=True)", ["allow_pickle"]),
        ("np.load(path, allow_pickle=False)", []),
        ("np.load(path)", []),  # numpy refuses them by itself
        ("pd.read_pickle(path)", ["read_pickle"]),
    ],
)
def test_what_counts_as_reading_a_pickle(code: str, found: list[str]) -> None:
    assert found == list(reads_of_pickles(ast.parse(code)))


def test_nothing_reads_a_pickle() -> None:
    """In any module of ours, the command line and the deployment's scripts included."""
    found = {
        (str(file.relative_to(ROOT)), name) for file in FILES for name in reads_of_pickles(ast.parse(file.read_text()))
    }

    assert ALLOWED == found
