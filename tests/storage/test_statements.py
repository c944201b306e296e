"""How `.sql` files become statements."""

from pathlib import Path

import pytest

from service.storage.statements import Statement, StatementFileError, Statements, all_statements


def written(folder: Path, text: str, name: str = "noun.sql") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_statement_is_found_by_its_name_and_keeps_its_comments(tmp_path: Path) -> None:
    written(
        tmp_path,
        "-- About the file.\n\n"
        "-- name: noun_get\n-- tenant: any, because ...\nSELECT 1\n\n"
        "-- name: noun_all\nSELECT 2\n",
    )
    sql = Statements.beside(str(tmp_path / "noun.py"))
    assert sql.noun_get == Statement("noun_get", "-- tenant: any, because ...\nSELECT 1")
    assert [statement.text for statement in sql] == [sql.noun_get.text, "SELECT 2"]


def test_a_missing_statement_is_named_with_its_file(tmp_path: Path) -> None:
    sql = Statements(written(tmp_path, "-- name: noun_get\nSELECT 1"))
    with pytest.raises(AttributeError, match=r"noun\.sql has no statement named noun_put"):
        _ = sql.noun_put


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "two statements named a"),
        ("SELECT 1\n-- name: a\nSELECT 2", "above its first"),
        ("-- name: a\n-- nothing else\n-- name: b\nSELECT 2", "no SQL below a"),
        ("-- name: A\nSELECT 1", "not `-- name: lower_case`"),
        ("-- name a\nSELECT 1", "not `-- name: lower_case`"),
        ("--name: a b\nSELECT 1", "not `-- name: lower_case`"),
    ],
)
def test_a_file_that_is_not_made_of_named_blocks_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(StatementFileError, match=complaint):
        Statements(written(tmp_path, text))


def test_two_files_cannot_use_one_name(tmp_path: Path) -> None:
    written(tmp_path, "-- name: a\nSELECT 1", "one.sql")
    written(tmp_path, "-- name: a\nSELECT 1", "two.sql")
    with pytest.raises(StatementFileError, match=r"two\.sql"):
        all_statements(tmp_path)


def test_the_statements_of_this_build_can_all_be_read() -> None:
    assert all(statement.text for statement in all_statements())
