"""Text tables: what is read, what is refused and where, and the order of what is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydino.base import UserError
from pydino.kaldi import read_table, write_table


def written(folder, content: bytes):
    path = folder / "table"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content, message",
    [
        (b"b 1\na 2\n", r"table, line 2: 'a' is not in sorted order.*LC_ALL=C"),
        (b"a 1\na 2\n", r"table, line 2: 'a' occurs twice"),
        (b"a 1\n\nb 2\n", r"table, line 2: no key"),
        (b" a 1\n", r"table, line 1: no key"),
        (b"a 1\nb 2", r"table: the last line has no newline"),
        (b"a \xff\n", r"table is not UTF-8"),
    ],
)
def test_malformed_tables_are_refused_with_the_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_table(written(tmp_path, content))


def test_the_order_is_that_of_bytes_and_tabs_and_blanks_separate(tmp_path):
    table = read_table(written(tmp_path, "B 1\na\tx  y\nb\nz  two \né 3\n語 4\n".encode()))
    assert table == {"B": "1", "a": "x  y", "b": "", "z": "two", "é": "3", "語": "4"}
    assert list(read_table(written(tmp_path, b"b 1\na 2\n"), check_sorted=False)) == ["b", "a"]
    with pytest.raises(UserError, match="cannot read .*nosuch"):
        read_table(tmp_path / "nosuch")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path, mark, end):
    path = written(tmp_path, mark + b"a 1" + end + b"b  x y " + end)
    assert read_table(path) == {"a": "1", "b": "x y"}


def test_the_first_ascii_blanks_separate_and_others_are_kept(tmp_path):
    content = b"a /x\ty z.wav\nb \t /x\xc2\xa0.wav\nc\xc2\xa0d\te\xe2\x80\xa8f\n"
    table = {"a": "/x\ty z.wav", "b": "/x\xa0.wav", "c\xa0d": "e\u2028f"}
    assert read_table(written(tmp_path, content)) == table
    write_table(tmp_path / "again", table)
    assert read_table(tmp_path / "again") == table


names = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1)


@given(table=st.dictionaries(names, st.lists(names).map(" ".join)))
def test_what_is_written_reads_back_sorted(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("t") / "table"
    write_table(path, table)
    back = read_table(path)
    assert back == table and list(back) == sorted(table, key=str.encode)


@pytest.mark.parametrize("table", [{"a b": "1"}, {"": "1"}, {"a": "1\n2"}, {"a\n": "1"}])
def test_what_would_not_read_back_is_not_written(tmp_path, table):
    with pytest.raises(UserError):
        write_table(tmp_path / "table", table)
    assert list(tmp_path.iterdir()) == []
