"""The layers are data: which of our packages each package may import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "index", "service", "benchmarks", "commands")
EVERYTHING = {*PACKAGES, "que2search"}
# module or package -> the modules and packages that it may import; the longest matching name decides.
MAY_IMPORT = {
    "models": {"models"},
    "models.evaluation": {"models", "index.exact", "index.lexical"},
    "index": {"index"},
    "service": {"service", "index", "models.features", "models.runtime", "models.errors"},
    "benchmarks": {"models", "index", "service", "benchmarks"},
    "commands": set(PACKAGES),
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def our_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from our_imports_of(node)


def our_imports_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        assert node.level == 0, f"relative import in line {node.lineno}"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in EVERYTHING]


def covered(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_layer_may(package: str) -> None:
    """models and index know only themselves; service joins them; benchmarks measure; commands see all."""
    for path in modules(package):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        rule = max((key for key in MAY_IMPORT if covered(dotted, {key})), key=len)
        forbidden = [name for name in our_imports(path) if not covered(name, MAY_IMPORT[rule])]

        assert [] == forbidden, f"{dotted} may import only {sorted(MAY_IMPORT[rule])}"


@pytest.mark.parametrize("path", [ROOT / "que2search.py", *modules("commands")], ids=lambda path: path.name)
def test_the_command_line_imports_lazily(path: Path) -> None:
    """At its top a module of it names only others of it, so --help is instant and each part needs only its own
    libraries."""
    top_level = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = [name for node in top_level for name in our_imports_of(node)]

    assert [] == [name for name in imported if not covered(name, {"commands"})]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_have_empty_init_files(package: str) -> None:
    """Importing a leaf must not load its whole package."""
    for path in (ROOT / package).rglob("__init__.py"):
        assert "" == path.read_text().strip(), path


@pytest.mark.parametrize("module", ["service.app", "index.tune", "models.runtime", "que2search"])
def test_serving_loads_no_training_library(module: str) -> None:
    """The serving image has no torch, polars, pyarrow or matplotlib; importing these modules must not need them."""
    heavy = {"torch", "polars", "pyarrow", "sklearn", "matplotlib"}
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "" == result.stdout.strip()
