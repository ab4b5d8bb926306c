"""`--param key=value`."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagy.cli.params import add_params, parse_params
from dagy.errors import ExitCode, ParameterError, shown


@pytest.mark.parametrize(
    ("items", "texts"),
    [
        ([], {}),
        (["a=1", "b=x"], {"a": "1", "b": "x"}),
        (["a=", "b=x=y"], {"a": "", "b": "x=y"}),
        (["a=1", "a=2"], {"a": "2"}),
    ],
)
def test_gives_texts_by_name(items, texts):
    assert parse_params(items) == texts


@pytest.mark.parametrize("item", ["bad", "", "=", "=1"])
def test_of_another_form_is_refused(item):
    with pytest.raises(ParameterError) as caught:
        parse_params(["a=1", item])
    assert shown(caught.value) == f"ValueError: Invalid param {item!r}, expected key=value"
    assert caught.value.exit_code is ExitCode.USAGE


@given(st.text(min_size=1).filter(lambda name: "=" not in name), st.text())
def test_keeps_any_text(name, text):
    assert parse_params([f"{name}={text}"]) == {name: text}


def test_can_be_repeated_on_the_command_line():
    parser = argparse.ArgumentParser()
    add_params(parser)
    assert parser.parse_args([]).param == []
    assert parser.parse_args(["--param", "a=1", "--param", "b=2"]).param == ["a=1", "b=2"]
