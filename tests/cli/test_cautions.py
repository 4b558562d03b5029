"""`manako cautions`: what is asked for is what is shown, with marks, sources and nearest names."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata

import pytest
from click.testing import CliRunner, Result

from manako.catalogue.cautions import STATES, TOPICS, cautions
from manako.catalogue.facts import RECALLED_MARK
from manako.cli.root import ROOT
from manako.cli.texts import all_texts


def call(*args: str) -> Result:
    return CliRunner().invoke(ROOT, ["cautions", *args], env={"COLUMNS": "160"})


def ids(*args: str) -> list[str]:
    result = call(*args, "--json")
    assert result.exit_code == 0, result.output
    return [found["id"] for found in json.loads(result.stdout)]


@pytest.mark.parametrize("lang", ["ja", "en"])
def test_all_cautions_are_listed_with_their_state(lang: str) -> None:
    result = call("--lang", lang)
    assert result.exit_code == 0, result.output
    for caution in cautions():
        assert caution.id in result.stdout
    assert str(len(cautions())) in result.stdout.splitlines()[-2]
    assert ("誤り" in result.stdout) == (lang == "ja")


def test_topics_widen_and_the_state_narrows() -> None:
    mac, train = set(ids("--for", "mac")), set(ids("--for", "train"))
    assert {"mps-bitsandbytes", "mlx-covers-few"} <= mac
    assert set(ids("--for", "mac", "--for", "train")) == mac | train
    outdated = ids("--for", "mac", "--state", "outdated")
    assert "mps-bitsandbytes" in outdated
    assert "mps-flash-attention-2" not in outdated


def test_one_caution_shows_evidence_sources_and_what_manako_does() -> None:
    result = call("num-ctx-24576", "--lang", "en")
    assert result.exit_code == 0, result.output
    for words in ("wrong", "claim of the survey", "8,192", "[1]", "published:", "no Ollama"):
        assert words in result.stdout


def test_json_carries_both_languages_and_sources() -> None:
    found = json.loads(call("fp32-logits", "--json").stdout)
    assert found["said"]["ja"]
    assert found["state"] == "right"
    assert all(note["how"] and note["source"] and note["date"] for note in found["evidence"])


def test_strict_leaves_out_what_is_recalled() -> None:
    assert RECALLED_MARK in call().stdout
    assert RECALLED_MARK in call("rent-a-machine").stdout
    strict = call("--strict")
    assert RECALLED_MARK not in strict.stdout
    assert "gemma-2-num-ctx-8192" not in strict.stdout
    assert RECALLED_MARK not in call("rent-a-machine", "--strict").stdout
    for found in json.loads(call("--strict", "--json").stdout):
        assert all(note["how"] != "recalled" for note in found["evidence"]), found["id"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("iphone",), "heron-on-an-iphone"),
        (("--for", "maac"), "nearest are mac"),
        (("--state", "old"), "there are right, outdated"),
        (("--for", "licence", "--state", "unproven"), "--state unproven removes the last"),
        (("fp32-logits", "--for", "mac"), "leave out the id"),
    ],
)
def test_what_cannot_be_asked_is_said(args: tuple[str, ...], words: str) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_every_topic_state_and_kind_has_its_words() -> None:
    kinds = {caution.kind for caution in cautions()}
    wanted = {f"cautions.topic.{topic}" for topic in TOPICS}
    wanted |= {f"cautions.state.{state}" for state in STATES}
    wanted |= {f"cautions.kind.{kind}" for kind in kinds}
    assert wanted - set(all_texts()) == set()
    assert all(ids("--for", topic) for topic in TOPICS)


def test_whoever_reads_only_the_head_gets_no_error() -> None:
    """`manako cautions | head` closes the pipe; rich alone would turn that into a failure."""
    program = "from manako.cli.root import ROOT; ROOT.main(['cautions'])"
    call = [sys.executable, "-c", program]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def test_columns_stand_under_each_other_in_japanese() -> None:
    lines = call("--lang", "ja", "--state", "wrong").stdout.splitlines()
    starts = {
        width_of(line[: line.index(said)])
        for caution in cautions()
        if caution.state == "wrong"
        for line in lines
        if (said := caution.said.ja[:12]) in line
    }
    assert len(starts) == 1


def width_of(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
