"""Text tables: one entry a line, a key, a blank, the rest; sorted by key as ``LC_ALL=C sort`` sorts, each key
once.
"""

from pydino.base import UserError, decode, read_bytes, split_fields, write_text

_BLANKS = b" \t\r\v\f"


def read_table(path, check_sorted: bool = True) -> dict[str, str]:
    """Read a text table such as ``wav.scp`` or ``utt2spk``.

    A byte order mark and Windows or old Mac line ends are ignored.

    Args:
        path: the file. ASCII blanks separate the key from the rest of the line, which may be empty and may
            hold more blanks, tabs among them.
        check_sorted: raise on keys that are not in C order (bytes of their UTF-8).

    Returns:
        key -> rest of the line, in the order of the file.

    Raises:
        UserError: the file is missing, not UTF-8, lacks its last newline, has an empty line, or keys out of
            order or duplicated.
    """
    # Split as bytes, because str.split also splits at a no-break space, which is part of a name.
    *lines, last = decode(read_bytes(path), path).encode("utf-8").split(b"\n")
    if last:
        raise UserError(f"{path}: the last line has no newline: is the file truncated?")
    table: dict[str, str] = {}
    before = b""
    for number, line in enumerate(lines, 1):
        if not line or line[:1] in _BLANKS:
            raise UserError(
                f"{path}, line {number}: no key at the beginning of the line; utils/fix_data_dir.sh may help"
            )
        encoded, *rest = line.split(None, 1)
        key = encoded.decode("utf-8")
        if key in table:
            raise UserError(f"{path}, line {number}: '{key}' occurs twice; keep one of its lines")
        if check_sorted:
            if encoded < before:
                raise UserError(
                    f"{path}, line {number}: '{key}' is not in sorted order; sort with: LC_ALL=C sort -k1,1 "
                    "(utils/fix_data_dir.sh does)"
                )
            before = encoded
        table[key] = rest[0].rstrip().decode("utf-8") if rest else ""
    return table


def write_table(path, table: dict[str, object]) -> None:
    """Write a table atomically, sorted by key in C order.

    Raises:
        UserError: a key is empty or has white space in it, or a value has a line break.
    """
    for key, value in table.items():
        if split_fields(key) != [key]:
            raise UserError(f"{path}: '{key}' cannot be a key: keys are not empty and have no white space")
        if "\n" in str(value):
            raise UserError(f"{path}: the value of '{key}' has a line break")
    lines = (f"{key} {table[key]}".rstrip(" ") for key in sorted(table, key=lambda k: k.encode("utf-8")))
    write_text(path, "".join(f"{line}\n" for line in lines))
