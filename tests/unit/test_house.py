"""The rooms of the house: what is about one partner stands in its folder, and there is one way to write."""

import re
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[2] / "service"
KNOWING = ("app.py", "__main__.py", "cli/", "demo/", "partners/", "storage/migrations/")
"""What may name a partner: the composition root, what people start, and the rooms of the partners."""


WRITING = r"\.transaction\(\)|\bchange_record"


def naming(names: str) -> list[str]:
    """The files, by their paths in service/, in which the pattern is found."""
    files = (path for path in sorted(SERVICE.rglob("*")) if path.suffix in (".py", ".sql"))
    texts = {path.relative_to(SERVICE).as_posix(): path.read_text(encoding="utf-8") for path in files}
    return [path for path, text in texts.items() if re.search(names, text, re.IGNORECASE)]


@pytest.mark.parametrize("partner", ["ampeco", "chargeprice", "emabler"])
def test_only_the_rooms_of_the_partners_name_one(partner: str) -> None:
    found = naming(partner)
    assert f"partners/{partner}/__init__.py" in found
    assert [path for path in found if not path.startswith(KNOWING)] == []


@pytest.mark.parametrize("partner", ["ampeco", "chargeprice", "emabler"])
def test_a_partner_does_not_name_another(partner: str) -> None:
    rooms = [path for path in naming(partner) if path.startswith("partners/")]
    assert [path for path in rooms if not path.startswith(f"partners/{partner}/")] == []


def test_only_mutation_opens_a_writing_transaction_for_a_call_and_records_changes() -> None:
    found = naming(WRITING)
    assert {"resources/mutation.py", "storage/changes.py", "delivery/worker.py"} <= {*found}
    assert [path for path in found if path.startswith("rpc/")] == []
    assert naming(r"\bchange_record") == ["resources/mutation.py", "storage/changes.py", "storage/changes.sql"]
