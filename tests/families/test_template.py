"""The sandbox: what a hostile or broken chat template can and cannot do."""

from __future__ import annotations

import pickle

import pytest

from manako.core.errors import TemplateError
from manako.families._shared import template as template_room
from manako.families._shared.template import ChatTemplate

DOUBLING = (
    "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
    "{% set n.s = n.s JOIN n.s %}{% endfor %}"
)


def render(source: str, **variables: object) -> str:
    return ChatTemplate(source).render([], add_generation_prompt=False, **variables)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in 'xxxxxxxxxxxxxxxxxxxx' %}" * 8 + "{% endfor %}" * 8,
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_endless_loops_are_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_room, "MAX_RENDER_SECONDS", 0.2)
    with pytest.raises(TemplateError, match="longer than"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 999999999 }}",
        DOUBLING.replace("JOIN", "~"),
        DOUBLING.replace("JOIN", "+"),
        "{{ 'a' | center(999999999) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ 9 ** 999999999 }}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    ],
)
def test_output_that_explodes_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source)


def test_a_template_may_refuse_in_its_own_words() -> None:
    with pytest.raises(TemplateError, match="only one picture"):
        render("{{ raise_exception('only one picture') }}")


def test_broken_jinja_is_named() -> None:
    with pytest.raises(TemplateError, match="no valid Jinja"):
        render("{% for %}")


def test_the_clock_is_pinned() -> None:
    source = "{{ strftime_now('%Y-%m-%d') }}"
    assert render(source) == "2026-01-01"
    later = ChatTemplate(source, clock="2027-05-06T00:00:00")
    assert later.render([], add_generation_prompt=False) == "2027-05-06"


def test_json_loop_controls_and_generation_tag_work() -> None:
    source = (
        "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}"
        "{{ {'a': 'あ'} | tojson }}{% generation %}answer{% endgeneration %}"
    )
    assert render(source) == '13{"a": "あ"}answer'


def test_it_pickles_after_use() -> None:
    made = ChatTemplate("{{ bos_token }}{{ messages | length }}", bos="<s>")
    made.render([], add_generation_prompt=False)
    copy = pickle.loads(pickle.dumps(made))  # noqa: S301 (our own bytes)
    assert copy.render([1], add_generation_prompt=False) == "<s>1"
