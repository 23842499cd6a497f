"""YAML in, checked values out: what is told of each thing that can be wrong with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from nlp_al.errors import UserError
from nlp_al.values import build, convert, parse_yaml, read_yaml, shown, suggest


@dataclass(frozen=True)
class Section:
    name: str
    size: int = 3
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1.")
        if self.name == "bad":
            raise ValueError("The two do not go together.")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # text in YAML 1.1
        ("[yes, no, on, off]", ["yes", "no", "on", "off"]),  # truth values in YAML 1.1
        ("[true, false, null, ~]", [True, False, None, None]),
        ("-3", -3),
        ("", None),
        ("007", 7),
        ("'007'", "007"),
        ("a b", "a b"),
    ],
)
def test_yaml_is_version_1_2(text, value):
    assert parse_yaml(text, "here") == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "f.yaml line 3 is not valid YAML: expected ',' or ']', but got ':'."),
        ("a: 1\nb: 2\na: 3\n", 'f.yaml line 3 is not valid YAML: found duplicate key "a" with value "3" (original'),
        ("a: 1\nb:\n\t- 2\n", "f.yaml line 3 is not valid YAML: found character '\\t' that cannot start any token."),
        ("a: 1\nb: \x01\n", "f.yaml line 2 is not valid YAML: special characters are not allowed."),
        ("a: 2024-13-45\n", "f.yaml is not valid YAML: month must be in 1..12"),
        ("a: 1\n---\nb: 1\n", "f.yaml line 2 is not valid YAML: but found another document."),
        ("a: !!python/object:os.system x\n", "f.yaml line 1 is not valid YAML: could not determine a constructor"),
        ("[" * 400, "f.yaml is not valid YAML: "),
        ("[1", "f.yaml is not valid YAML: "),
    ],
)
def test_broken_yaml_is_told_with_its_line(text, told):
    with pytest.raises(UserError) as error:
        parse_yaml(text, "f.yaml")
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"", {}),
        (b"# nothing but this\n", {}),
        (b"\xef\xbb\xbfa: 1\r\nb: [x,\r\n  y]\r\n", {"a": 1, "b": ["x", "y"]}),
    ],
)
def test_a_yaml_file_may_be_empty_and_have_windows_line_ends(tmp_path: Path, data, values):
    (tmp_path / "c.yaml").write_bytes(data)
    assert read_yaml(tmp_path / "c.yaml") == values


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("a: café".encode("latin-1"), "c.yaml is not UTF-8: byte 7 can't be read; save it as UTF-8."),
        (b"- 1\n- 2\n", "c.yaml holds [1, 2]; it must be a mapping of keys to values."),
        (b"0\n", "c.yaml holds 0; it must be a mapping of keys to values."),
        (None, "c.yaml can't be read: No such file or directory."),
    ],
)
def test_a_file_that_is_no_mapping_in_utf_8(tmp_path: Path, data, told):
    if data is not None:
        (tmp_path / "c.yaml").write_bytes(data)
    with pytest.raises(UserError) as error:
        read_yaml(tmp_path / "c.yaml")
    assert str(error.value) == f"{tmp_path}/{told}"


@pytest.mark.parametrize(
    ("wanted", "value", "made"),
    [
        (float, 3, 3.0),
        (int | None, None, None),
        (float | None, 2, 2.0),
        (bool | str, "x", "x"),
        (Literal["a", "b"], "b", "b"),
        (list[int], [1, 2], [1, 2]),
        (dict[str, Any], {"a": 1}, {"a": 1}),
        (type(None), None, None),
        (Any, [None], [None]),
    ],
)
def test_a_value_of_the_right_type(wanted, value, made):
    found = convert(wanted, value, "k")
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("wanted", "value", "told"),
    [
        (int, "x", "k is 'x'; it must be a whole number."),
        (int, 25.0, "k is 25.0; it must be a whole number."),
        (int, True, "k is True; it must be a whole number."),
        (float, True, "k is True; it must be a number."),
        (float, float("nan"), "k is nan; it must be a number."),
        (float, float("inf"), "k is inf; it must be a number."),
        (bool, 1, "k is 1; it must be true or false."),
        (str, 5, "k is 5; it must be text."),
        (dict, [1], "k is [1]; it must be a mapping."),
        (list[int], "a", "k is 'a'; it must be a list."),
        (list[int], [1, "a"], "k[1] is 'a'; it must be a whole number."),
        (int | None, "a", "k is 'a'; it must be a whole number or null."),
        (bool | str, 2, "k is 2; it must be true or false or text."),
        (type(None), "x", "k is 'x'; it must be null."),
        (Literal["a", "b"], "c", "k is 'c'; it must be a or b."),
        (Literal[1, 2], True, "k is True; it must be 1 or 2."),
        (Literal[tuple(f"name{i}" for i in range(40))], "nam7", "k is 'nam7'; the closest name is 'name7'."),
        (Section, [1], "k is [1]; it must be a mapping of keys to values."),
    ],
)
def test_a_value_of_another_type_is_told(wanted, value, told):
    with pytest.raises(UserError) as error:
        convert(wanted, value, "k")
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "a", "sise": 2}, "Unknown key 'loop.sise': did you mean 'size'? (there are: name, share, size)."),
        ({"name": "a", 3: 2}, "Unknown key 'loop.3': there are: name, share, size."),
        ({"size": 2}, "The config lacks 'loop.name'."),
        ({"name": "a", "share": "x"}, "loop.share is 'x'; it must be a number."),
        ({"name": "a", "size": 0}, "loop.size is 0; it must be at least 1."),
        ({"name": "bad"}, "loop: The two do not go together."),
    ],
)
def test_a_dataclass_out_of_wrong_values(values, told):
    with pytest.raises(UserError) as error:
        build(Section, values, "loop")
    assert str(error.value) == told


def test_long_values_are_cut_in_a_sentence():
    assert shown(None) == "null"
    assert shown("x" * 500) == "'" + "x" * 76 + "..."


def test_a_suggestion_lists_what_there_is_unless_that_is_long():
    assert suggest("lop", ["loop", "stop"]) == "did you mean 'loop'? (there are: loop, stop)"
    assert suggest("zzz", ["loop", "stop"]) == "there are: loop, stop"
    assert suggest("zzz", []) == "there are none"
    assert suggest("name7x", [f"name{i}" for i in range(40)]) == "the closest name is 'name7'"
