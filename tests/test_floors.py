"""The floors: a module imports only its own floor and those below, and setup.py installs each floor and no tests."""

import ast
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]
BELOW: Final[dict[str, set[str]]] = {
    "schemas": set(),
    "transforms": {"schemas"},
    "pipelines": {"schemas", "transforms"},
    "runners": {"schemas", "transforms", "pipelines"},
}
MODULES: Final = sorted(path.relative_to(ROOT).as_posix() for floor in BELOW for path in (ROOT / floor).rglob("*.py"))


def imported(source: str) -> set[str]:
    """First names of all that a module imports, wherever in it the import stands."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    whole = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | whole}


def forbidden(floor: str, source: str) -> set[str]:
    """What a module of this floor imports and may not."""
    above = BELOW.keys() - BELOW[floor] - {floor}
    never = {"tests", "apache_beam"} if floor == "schemas" else {"tests"}
    return imported(source) & (above | never)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_its_floor_and_those_below(module: str) -> None:
    assert forbidden(module.partition("/")[0], (ROOT / module).read_text()) == set()


@pytest.mark.parametrize(
    ("floor", "source", "found"),
    [
        ("schemas", "import apache_beam as beam", {"apache_beam"}),
        ("schemas", "from transforms.batches import RawBatch", {"transforms"}),
        ("transforms", "import schemas.bar, pipelines.options", {"pipelines"}),
        ("pipelines", "def build():\n    from runners import live", {"runners"}),
        ("runners", "if False:\n    import tests.testing", {"tests"}),
        ("runners", "import apache_beam, pipelines, transforms, schemas, runners", set()),
    ],
)
def test_import_from_above_is_found_wherever_it_stands(floor: str, source: str, found: set[str]) -> None:
    assert forbidden(floor, source) == found


def test_every_floor_has_modules() -> None:
    assert {module.partition("/")[0] for module in MODULES} == BELOW.keys()


def setup_argument(name: str) -> Any:
    """A literal argument of the call in setup.py."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)]
    (value,) = [word.value for call in calls for word in call.keywords if word.arg == name]
    return ast.literal_eval(value)


def test_setup_names_every_package_of_the_floors_and_nothing_else() -> None:
    folders = {Path(module).parent.as_posix() for module in MODULES}
    assert sorted(setup_argument("packages")) == sorted(folder.replace("/", ".") for folder in folders)


def test_setup_takes_along_every_file_that_is_not_python() -> None:
    patterns = setup_argument("package_data")
    for floor in BELOW:
        others = {path for path in (ROOT / floor).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        taken = {path for pattern in patterns.get(floor, []) for path in (ROOT / floor).glob(pattern)}
        assert others == taken


def test_nothing_is_pickled() -> None:
    """What is kept or travels has a layout of its own; who may write a pickle may run code."""
    assert [module for module in MODULES if "pickle" in imported((ROOT / module).read_text())] == []
