"""The rooms of the house: what is about one partner stands in its folder, and there is one way to write."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
KNOWING = ("app.py", "__main__.py", "cli/", "demo/", "partners/", "storage/migrations/")
"""What may name a partner: the composition root, what people start, and the rooms of the partners."""


ROOMS = {path.parent.name for path in (SERVICE / "partners").glob("*/__init__.py")}
UNMISTAKABLE = sorted(ROOMS - {"ocpi", "salesforce", "utility_cloud"})
"""Without OCPI, which is a protocol too, and those whose connections ask for tokens in ways of their own."""
WRITING = r"\.transaction\(\)|\bchange_record"


def naming(names: str) -> list[str]:
    """The files, by their paths in service/, in which the pattern is found."""
    files = (path for path in sorted(SERVICE.rglob("*")) if path.suffix in (".py", ".sql"))
    texts = {path.relative_to(SERVICE).as_posix(): path.read_text(encoding="utf-8") for path in files}
    return [path for path, text in texts.items() if re.search(names, text, re.IGNORECASE)]


@pytest.mark.parametrize("partner", UNMISTAKABLE)
def test_only_the_rooms_of_the_partners_name_one(partner: str) -> None:
    found = naming(partner)
    assert f"partners/{partner}/__init__.py" in found
    assert [path for path in found if not path.startswith(KNOWING)] == []


@pytest.mark.parametrize("partner", UNMISTAKABLE)
def test_a_partner_does_not_name_another(partner: str) -> None:
    rooms = [path for path in naming(partner) if path.startswith("partners/")]
    assert [path for path in rooms if not path.startswith(f"partners/{partner}/")] == []


def test_only_mutation_opens_a_writing_transaction_for_a_call_and_records_changes() -> None:
    found = naming(WRITING)
    assert {"resources/mutation.py", "storage/changes.py", "delivery/worker.py"} <= {*found}
    assert [path for path in found if path.startswith("rpc/")] == []
    assert naming(r"\bchange_record") == ["resources/mutation.py", "storage/changes.py", "storage/changes.sql"]


def test_a_server_imports_no_simulator() -> None:
    program = "import service.app, sys; print(*(name for name in sys.modules if 'simulator' in name))"
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert imported.stdout.split() == []
    with_one = program.replace("service.app", "service.partners.ocpi.simulator")
    assert subprocess.run([sys.executable, "-c", with_one], capture_output=True, text=True, check=True).stdout.split()


def test_the_side_of_an_object_is_bound_but_where_only_ours_count() -> None:
    """What is delivered, what a party of ours owns, and whose status is reported, is ours.

    That what is ours was received through no deleted integration is true on either side.
    """
    nouns = ("changes", "location", "marking", "object_id", "party", "personal_data", "retention")
    ours = [f"storage/{noun}.sql" for noun in nouns]
    assert [
        path
        for path in naming(r"\bintegration_id = ''(?! OR NOT EXISTS)")
        if not path.startswith(("storage/migrations/", "storage/schema"))
    ] == ours


ERRORS = {"error", "failure", "violation", "problem", "refused", "refusal", "exception"}
READS = {"startswith", "endswith", "find", "index", "count", "split", "partition", "search", "match", "findall"}


def reads_of_texts(source: str) -> list[int]:
    """The lines that look into what an error says: that compare it, search it or cut it."""
    nodes = [*ast.walk(ast.parse(source))]
    errors = ERRORS | {node.name for node in nodes if isinstance(node, ast.ExceptHandler)}
    texts: set[str] = set()

    def is_text(node: ast.AST) -> bool:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return attribute == "description" or (attribute in ("message", "args") and name in errors)
            case ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Name(id=name)]):
                return name in errors
            case ast.Subscript(value=value) | ast.Call(func=ast.Attribute(value=value, attr="lower" | "strip")):
                return is_text(value)
        return isinstance(node, ast.Name) and node.id in texts

    for node in nodes:
        match node:
            case ast.Assign(targets=[target], value=value):
                pairs = [(target, value)]
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    pairs = [*zip(target.elts, value.elts, strict=False)]
                texts |= {each.id for each, given in pairs if isinstance(each, ast.Name) and is_text(given)}
    found = []
    for node in nodes:
        match node:
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() | ast.Eq() | ast.NotEq()], comparators=[right]):
                found.extend([node.lineno] if is_text(left) or is_text(right) else [])
            case ast.Call(func=ast.Attribute(value=value, attr=name), args=args) if name in READS:
                found.extend([node.lineno] if any(map(is_text, [value, *args])) else [])
    return found


def test_no_code_reads_the_text_of_an_error() -> None:
    files = sorted(SERVICE.rglob("*.py"))
    assert {
        path.relative_to(SERVICE).as_posix(): lines for path in files if (lines := reads_of_texts(path.read_text()))
    } == {}


@pytest.mark.parametrize(
    "line",
    [
        "if path not in error.message: pass",
        "gone = 'closed' in str(error)",
        "path, words = violation.path, violation.description; first, _, rest = words.partition(' ')",
        "text = str(error).lower(); text == 'x'",
        "re.search('[0-9]+', failure.args[0])",
        "try: pass\nexcept OSError as e: again = e.args[0] == 'timed out'",
        "any(each.description == 'is required' for each in error.violations)",
    ],
)
def test_a_control_reads_the_text_of_an_error(line: str) -> None:
    assert reads_of_texts(line)
