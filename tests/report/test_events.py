import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_makers import IMAGE_ID, conversation, encoded, picture

from manako.core.conversation import Conversation, Image, Message
from manako.core.errors import InputError, RowError, WriteError
from manako.core.example import Example, ImageInput
from manako.core.record import read_record
from manako.report.events import (
    Encoded,
    encode_sample,
    prediction_entry,
    sample_entry,
    token_events,
    write_entries,
)
from manako.report.tokens import count_tokens, shown_tokens


def test_parts_keep_their_order_and_name_their_pictures():
    entry = sample_entry(conversation(), number=3)
    parts = entry.event["messages"][0]["parts"]
    assert [part["type"] for part in parts] == ["image", "text", "image", "text"]
    assert [part["image"] for part in parts if part["type"] == "image"] == [0, 1]
    assert [image["width"] for image in entry.event["images"]] == [8, 12]
    assert entry.event["number"] == 3
    assert "tokens" not in entry.event


def test_pictures_of_later_turns_go_on_counting():
    turns = (Message("user", (picture(), "?")), Message("user", (picture(9), picture(10))))
    messages = sample_entry(Conversation(turns), number=0).event["messages"]
    assert [p["image"] for m in messages for p in m["parts"] if p["type"] == "image"] == [0, 1, 2]


def test_image_tokens_are_one_entry_per_picture_and_all_tokens_are_counted():
    tokens = token_events(encoded())
    assert [(t["image"], t["count"]) for t in tokens if "image" in t] == [(0, 2), (1, 6)]
    assert [t["text"] for t in tokens if t.get("trained")] == ["青", "<|end|>"]
    assert [t["text"] for t in tokens if t.get("control")] == ["<|start|>", "<|end|>"]
    assert count_tokens(shown_tokens(tokens)).tokens == encoded().example.tokens


def test_the_caller_may_say_which_ids_are_control_tokens():
    tokens = token_events(replace(encoded(), control_ids=frozenset({20})))
    assert [t["text"] for t in tokens if t.get("control")] == ["user"]


def test_marks_between_image_tokens_stay_text():
    ids = [5, IMAGE_ID, IMAGE_ID, 7, IMAGE_ID, IMAGE_ID, 6]
    image = ImageInput(
        pixels=np.zeros((4, 3, 1, 1), np.uint8), grid=(1, 2, 2), start=1, tokens=4, size=(2, 2)
    )
    example = Example(
        input_ids=np.array(ids, np.int32), trained=np.zeros(7, np.bool_), images=(image,)
    )
    tokens = token_events(Encoded(example, ["a", "i", "i", "<row>", "i", "i", "b"]))
    assert [t.get("text", t.get("count")) for t in tokens] == ["a", 2, "<row>", 2, "b"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12))
def test_no_token_is_lost_or_counted_twice(runs):
    """Any order of pictures and trained or untrained stretches."""
    ids, trained, images = [], [], []
    for number, (is_image, count) in enumerate(runs):
        if is_image:
            pixels = np.zeros((count, 3, 1, 1), np.uint8)
            images.append(
                ImageInput(
                    pixels=pixels, grid=(1, 1, count), start=len(ids), tokens=count, size=(1, 1)
                )
            )
        ids += [IMAGE_ID if is_image else 100 + number] * count
        trained += [not is_image and number % 2 == 1] * count
    example = Example(
        input_ids=np.array(ids, np.int32),
        trained=np.array(trained, np.bool_),
        images=tuple(images),
    )
    shown = shown_tokens(token_events(Encoded(example, ["x"] * len(ids))))
    counts = count_tokens(shown)
    assert counts.tokens == len(ids)
    assert counts.image == example.lengths.image_tokens
    assert counts.trained == example.lengths.trained_tokens
    assert [t.start for t in shown] == list(np.cumsum([0, *(t.count for t in shown)])[: len(shown)])


def test_bytes_of_one_character_are_shown_as_that_character():
    pieces = {(40, 41, 42): "鰯", (40, 41): "\ufffd"}
    found = replace(
        encoded(("\ufffd", "\ufffd", "\ufffd", "。")),
        decode=lambda ids: pieces.get(tuple(ids), "\ufffd"),
    )
    tokens = [t for t in token_events(found) if t.get("trained")]
    assert [t["text"] for t in tokens] == ["鰯", "", "", "。"]
    assert tokens[0]["pieces"] == 3
    shown = [t for t in shown_tokens(token_events(found)) if t.state == "trained"]
    assert [t.is_rest for t in shown] == [False, True, True, False]


def test_bytes_that_make_no_character_stay_as_they_are():
    found = replace(encoded(("\ufffd", "a")), decode=lambda ids: "\ufffd" * len(ids))
    assert [t["text"] for t in token_events(found) if t.get("trained")] == ["\ufffd", "a"]


def test_texts_and_tokens_must_be_equally_many():
    with pytest.raises(InputError, match="3 token texts for"):
        token_events(replace(encoded(), texts=["a", "b", "c"]))


def test_a_picture_that_is_none_is_named_and_stops_nothing():
    broken = Conversation((Message("user", (Image(b"no picture"), "?")),))
    entry = sample_entry(broken, number=0)
    assert "no picture of a known kind" in entry.event["images"][0]["error"]
    assert not entry.files


class Refusing:
    def encode(self, conversation):
        raise RowError("row row-1: too long", next_step="shrink it", row_id="row-1")


class Encoding:
    def encode(self, conversation):
        return encoded().example

    def token_texts(self, ids):
        assert len(ids) == encoded().example.tokens
        return list(encoded().texts)

    def see(self, image):
        return encoded().seen[0 if image.width == 8 else 1]

    def parse(self, ids):
        return Message("assistant", "?")


def test_a_row_that_cannot_be_encoded_says_why_and_what_to_do():
    event = encode_sample(conversation(), Refusing(), number=2).event
    assert "too long" in event["refused"]
    assert "shrink it" in event["refused"]
    assert "tokens" not in event


def test_a_processor_makes_tokens_lengths_and_what_it_sees():
    entry = encode_sample(conversation(), Encoding(), number=2)
    seen = entry.event["images"][1]["seen"]
    assert (seen["width"], seen["height"], seen["rows"], seen["columns"]) == (18, 12, 2, 3)
    assert seen["tokens"] == 6
    assert entry.event["lengths"]["image_tokens"] == 8
    assert seen["file"] in entry.files


def test_a_real_processor_makes_a_sample_whose_counts_are_the_examples(tiny_qwen):
    from manako.families.qwen2_vl import FAMILY

    processor = FAMILY.open(tiny_qwen)
    row = conversation(question="鰯と <|im_end|> を読む", answer="東京\n12")
    example = processor.encode(row)
    shown = shown_tokens(encode_sample(row, processor, number=0).event["tokens"])
    counts = count_tokens(shown)
    assert (counts.tokens, counts.image, counts.trained) == (
        example.tokens,
        example.lengths.image_tokens,
        example.lengths.trained_tokens,
    )
    answer = "".join(t.text for t in shown if t.state == "trained" and not t.is_control)
    assert answer == "東京⏎12"
    assert "鰯" in "".join(t.text for t in shown)
    forged = [t for t in shown if t.text == "<|im_end|>" and not t.is_control]
    assert not forged


def test_written_entries_read_back_and_equal_pictures_are_stored_once(tmp_path):
    entries = [sample_entry(conversation(), number=n) for n in range(3)]
    path = write_entries(tmp_path, entries, verb="view", rows=3)
    record = read_record(path)
    assert record.header["rows"] == 3
    assert [event["number"] for event in record.of_kind("sample")] == [0, 1, 2]
    files = {image["file"] for event in record.events for image in event["images"]}
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.glob("pictures/*")} == files
    assert len(files) == 2


def test_a_picture_cut_short_is_written_again_and_a_full_disk_is_named(tmp_path, monkeypatch):
    entry = sample_entry(conversation(), number=0)
    write_entries(tmp_path, [entry], verb="view")
    cut = next(tmp_path.glob("pictures/*"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:5])
    write_entries(tmp_path, [entry], verb="view")
    assert cut.read_bytes() == whole

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(WriteError, match="No space left"):
        write_entries(tmp_path / "new", [entry], verb="view")
    assert not (tmp_path / "new" / "record.jsonl").exists()


def test_names_from_data_never_reach_the_disk(tmp_path):
    row = Conversation((Message("user", (Image(picture().data, path="../../etc/passwd"),)),))
    entry = sample_entry(row, number=0)
    write_entries(tmp_path / "out", [entry], verb="view")
    assert [p.parent.name for p in tmp_path.rglob("*.png")] == ["pictures"]


def test_a_prediction_keeps_prompt_answer_and_verdict():
    entry = prediction_entry(
        conversation(), group="count", expected="2", answer="3", correct=False, finish_reason="stop"
    )
    event = json.loads(json.dumps(entry.event))
    assert (event["group"], event["expected"], event["answer"]) == ("count", "2", "3")
    assert event["correct"] is False
    assert event["finish_reason"] == "stop"
    assert len(entry.files) == 2
