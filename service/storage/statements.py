"""SQL lives in `.sql` files beside the modules that use it, one block per statement.

-- name: company_get
-- Further comments belong to the statement.
SELECT payload FROM company WHERE tenant_id = $1 AND company_id = $2
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = re.compile(r"^-- *name\b(.*)$", re.MULTILINE)
_NAME = re.compile(r": ([a-z][a-z0-9_]*) *")
_COMMENT = re.compile(r"--.*")


class StatementFileError(Exception):
    """A `.sql` file that is not made of named blocks, or a name that is used twice: a fault of this build."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`name` stands in metrics, spans and logs. `text` keeps its comments, for tests and for the server's views."""

    name: str
    text: str


class Statements:
    """The statements of one file, as attributes. Raises StatementFileError when the file cannot be read as such."""

    def __init__(self, path: Path) -> None:
        self._file = path.name
        self._statements: dict[str, Statement] = {}
        for statement in _blocks(path):
            if statement.name in self._statements:
                raise StatementFileError(f"{self._file} has two statements named {statement.name}")
            self._statements[statement.name] = statement

    @classmethod
    def beside(cls, module_file: str) -> "Statements":
        """Those of `company.sql` for `company.py`, which passes its `__file__`."""
        return cls(Path(module_file).with_suffix(".sql"))

    def __getattr__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._file} has no statement named {name}") from None

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._statements.values())


def all_statements(folder: Path = Path(__file__).parent) -> tuple[Statement, ...]:
    """Every statement of the folder's files but schema.sql. Raises StatementFileError when two files use one name."""
    found: dict[str, Statement] = {}
    for path in sorted({*folder.glob("*.sql")} - {folder / "schema.sql"}):
        for statement in Statements(path):
            if statement.name in found:
                raise StatementFileError(f"{path.name} names {statement.name}, which another file already does")
            found[statement.name] = statement
    return tuple(found.values())


def _blocks(path: Path) -> Iterator[Statement]:
    preamble, *parts = _HEADER.split(path.read_text(encoding="utf-8"))
    if _COMMENT.sub("", preamble).strip():
        raise StatementFileError(f"{path.name} has SQL above its first `-- name:`")
    for header, text in zip(parts[::2], parts[1::2], strict=True):
        name = _NAME.fullmatch(header)
        if name is None:
            raise StatementFileError(f"{path.name} has a header that is not `-- name: lower_case`: {header.strip()!r}")
        if not _COMMENT.sub("", text).strip():
            raise StatementFileError(f"{path.name} has no SQL below {name[1]}")
        yield Statement(name[1], text.strip())
