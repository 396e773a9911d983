"""Tables as corpora and spreadsheets have them: fields between commas, semicolons, tabs or blanks."""

import csv
import re
from collections.abc import Collection

from pydino.base import UserError, read_text


def read_rows(path) -> list[list[str]]:
    """Read a table; fields are without the blanks around them, empty lines are skipped.

    The delimiter is the tab, the semicolon or the comma, the first of these that divides all lines into
    equally many fields. Without one, or with differing counts, it is the first of them that is in every line.
    Lines without any of them are divided at the last blank, so that file names may hold blanks. A first line
    ``sep=;``, as spreadsheets write it, names the delimiter and is no row.

    Raises:
        UserError: not readable as text, or a quotation mark that is not closed.
    """
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    named = re.fullmatch(r"sep=([\t;,])", lines[0].strip(" \r"), re.IGNORECASE) if lines else None
    if named:
        del lines[0]
    found = [mark for mark in named[1] if lines] if named else []
    found = found or [mark for mark in "\t;," if lines and all(mark in line for line in lines)]
    try:
        tables = [[[field.strip() for field in row] for row in _split(lines, mark)] for mark in found]
    except csv.Error as error:
        raise UserError(f"{path}: {error}; correct the quotation marks") from None
    # With the wrong delimiter, fields in quotation marks are torn apart.
    tables = [table for table in tables if not any('"' in field for row in table for field in row)] or tables
    even = [table for table in tables if len({len(row) for row in table}) == 1]
    if tables:
        return (even or tables)[0]
    return [[field.strip() for field in line.rsplit(None, 1)] for line in lines]


def _split(lines: list[str], mark: str) -> list[list[str]]:
    return list(csv.reader(lines, delimiter=mark, skipinitialspace=True, strict=True))


def read_records(path, columns: Collection[str] = ()) -> list[dict[str, str]]:
    """Read a table with a header: one dict a row, with the names of the columns in lower case.

    Fields that a short row lacks are empty.

    Args:
        path: the file.
        columns: that it must have, in upper or lower case.

    Raises:
        UserError: no header, a column is missing, or a row with more fields than the header has.
    """
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path} is empty; expected a table with a header")
    header = [name.lower() for name in rows[0]]
    if lost := [column for column in columns if column.lower() not in header]:
        raise UserError(
            f"{path} has no column {' or '.join(lost)}; it has {', '.join(filter(None, rows[0]))}"
        )
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(header) and any(row[len(header) :]):
            raise UserError(
                f"{path}, row {number}: {len(row)} fields, but the header has {len(header)} "
                f"({', '.join(header)}); correct the row"
            )
    return [dict(zip(header, [*row, *[""] * len(header)], strict=False)) for row in rows[1:]]
