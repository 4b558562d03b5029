"""The census counts what a plain loop over the conversations counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from manako.core.conversation import Conversation, Image, Message, Text
from manako.core.errors import NothingTrainedError
from manako.core.example import Lengths
from manako.core.record import read_record
from manako.core.row import row_of
from manako.data import census as census_module
from manako.data.census import Census, take_census, write_census
from manako.data.spread import Numbers, Spread
from manako.data.store import Store
from manako.data.writer import DroppedRow, write_store
from manako.formats._shared import tiny_png


def picture(number: int) -> Image:
    return Image(tiny_png(1 + number % 9, 1 + number % 5, grey=number % 50))


def conversation(number: int) -> Conversation:
    turns: list[Message] = []
    if number % 6 == 0:
        turns.append(Message("system", (Text("短く。"),)))
    for turn in range(number % 3 + (number % 11 > 0)):
        pictures = tuple(picture(number + k) for k in range((number + turn) % 3))
        turns.append(Message("user", (*pictures, Text(f"What? {number % 40}"), Text("何"))))
        answer = ["はい", "yes", "3", "", "答案", "네", "\u3000 ", "да"][(number + turn) % 8]
        turns.append(Message("assistant", (Text(answer),), False if number % 7 == 0 else None))
    return Conversation(tuple(turns), id=str(number), source=f"源{number % 3}")


CONVERSATIONS = [conversation(number) for number in range(300)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("census") / "set"
    with write_store(out) as writer:
        for item in CONVERSATIONS:
            row = row_of(item, license="CC0" if item.source == "源1" else "", language="ja")
            writer.add(row)
        writer.drop(
            DroppedRow(file="f", index=0, id="x", sha256="", reason="bad", detail="", row="")
        )
    return Store.open(out)


@pytest.fixture(scope="module", params=[7, 4096], ids=["small batches", "one batch"])
def counted(store: Store, request: pytest.FixtureRequest) -> Census:
    batches = type(store).batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(store),
            "batches",
            lambda self, columns: batches(self, columns, batch_rows=request.param),
        )
        return take_census(store)


TURNS = [message for item in CONVERSATIONS for message in item.messages]
ANSWERS = [message for message in TURNS if message.is_trained]
IMAGES = [image for item in CONVERSATIONS for image in item.images]


def test_rows_turns_and_characters(counted: Census) -> None:
    assert counted.rows == 300
    assert counted.turns == len(TURNS)
    assert counted.turns_by_role == Counter(message.role for message in TURNS)
    assert counted.characters == sum(len(message.text) for message in TURNS)
    for role, characters in counted.characters_by_role.items():
        assert characters == sum(len(m.text) for m in TURNS if m.role == role)
    assert counted.turns_per_row == Numbers.of([len(c.messages) for c in CONVERSATIONS]).spread()


def test_answers_are_what_is_trained(counted: Census) -> None:
    assert counted.answers == len(ANSWERS)
    assert counted.answer_characters == Numbers.of([len(m.text) for m in ANSWERS]).spread()
    assert counted.empty_answers == sum(not message.text.strip() for message in ANSWERS)
    assert counted.empty_answers > 0
    without = [c for c in CONVERSATIONS if c.last_trained is None]
    assert counted.rows_without_answer == len(without) > 0


def test_pictures(counted: Census) -> None:
    assert counted.images == len(IMAGES)
    assert counted.images_per_row == Counter(len(c.images) for c in CONVERSATIONS)
    assert counted.rows_without_image == counted.images_per_row[0] > 0
    assert counted.image_width == Numbers.of([image.width for image in IMAGES]).spread()
    assert counted.image_height == Numbers.of([image.height for image in IMAGES]).spread()
    assert counted.image_pixels.total == sum(i.width * i.height for i in IMAGES)


def test_scripts(counted: Census) -> None:
    expected: Counter[str] = Counter()
    by_answer = {"はい": "japanese", "yes": "latin", "答案": "han", "네": "hangul", "да": "other"}
    for message in TURNS:
        if message.role == "assistant":
            expected[by_answer.get(message.text, "none")] += 1
        else:
            # 短く。 has kana; 何 beside Latin letters has none.
            expected["japanese" if message.role == "system" else "han"] += 1
    assert counted.scripts == expected


def test_sources_licences_languages_and_dropped_rows(counted: Census) -> None:
    assert sum(source.rows for source in counted.sources.values()) == 300
    one = counted.sources["源1"]
    mine = [c for c in CONVERSATIONS if c.source == "源1"]
    answers = [m for c in mine for m in c.messages if m.is_trained]
    assert (one.rows, one.images) == (len(mine), sum(len(c.images) for c in mine))
    assert (one.answers, one.answer_characters) == (len(answers), sum(len(m.text) for m in answers))
    assert counted.licences == {"": 200, "CC0": 100}
    assert counted.languages == {"ja": 300}
    assert counted.dropped == {"bad": 1}


def test_repeats(counted: Census) -> None:
    repeats = counted.repeats
    assert repeats is not None
    distinct = {image.data for image in IMAGES}
    rows_of: dict[bytes, set[int]] = {}
    for number, item in enumerate(CONVERSATIONS):
        for image in item.images:
            rows_of.setdefault(image.data, set()).add(number)
    sharing = {n for rows in rows_of.values() if len(rows) > 1 for n in rows}
    content = {
        (tuple(i.data for i in c.images), "".join(m.text for m in c.messages))
        for c in CONVERSATIONS
    }
    assert repeats.distinct_images == len(distinct)
    assert repeats.repeated_images == len(IMAGES) - len(distinct)
    assert repeats.rows_sharing_images == len(sharing)
    assert repeats.repeated_rows == 300 - len(content)


def test_tokens_come_from_the_measure_and_refused_rows_are_counted(store: Store) -> None:
    def measure(item: Conversation) -> Lengths:
        if item.last_trained is None:
            raise NothingTrainedError(f"row {item.id}", reason="nothing_trained", row_id=item.id)
        pixels = sum(image.width * image.height for image in item.images)  # sizes are known
        words = sum(len(message.text) for message in item.messages)
        return Lengths(
            text_tokens=words, image_tokens=pixels, trained_tokens=1, vision_patches=4 * pixels
        )

    told: list[tuple[int, int]] = []
    tokens = take_census(
        store, measure=measure, repeats=False, progress=lambda *done: told.append(done)
    ).tokens
    usable = [c for c in CONVERSATIONS if c.last_trained is not None]
    lengths = [measure(item) for item in usable]
    assert tokens is not None
    assert tokens.tokens == sum(length.tokens for length in lengths)
    assert tokens.tokens == tokens.text_tokens + tokens.image_tokens
    assert tokens.trained_tokens == len(usable)
    assert tokens.tokens_per_row == Numbers.of([length.tokens for length in lengths]).spread()
    assert tokens.refused == {"nothing_trained": 300 - len(usable)}
    longest = max(zip(lengths, usable, strict=True), key=lambda pair: pair[0].tokens)
    assert tokens.tokens_per_row.largest == longest[0].tokens
    assert tokens.longest_row == longest[1].id
    assert told[-1] == (300, 300)


def test_many_sources_are_named_up_to_a_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "NAMED_COUNTS", 2)
    counted = take_census(store, repeats=False)
    assert list(counted.sources)[2] == "(others)"
    assert counted.repeats is None
    assert sum(source.rows for source in counted.sources.values()) == 300


def test_the_record_and_json_hold_the_same_plain_values(counted: Census, tmp_path: Path) -> None:
    plain = counted.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert "tokens" not in plain
    write_census(tmp_path / "census.jsonl", counted, data="forms")
    record = read_record(tmp_path / "census.jsonl")
    assert record.header["verb"] == "data census"
    (event,) = record.of_kind("census")
    assert event == {"kind": "census", "data": "forms", **plain}


def test_an_empty_set_is_counted_too(tmp_path: Path) -> None:
    with write_store(tmp_path / "set"):
        pass
    counted = take_census(Store.open(tmp_path / "set"))
    assert (counted.rows, counted.images, counted.turns) == (0, 0, 0)
    assert counted.answer_characters == Spread()


def test_a_spread_names_numbers_that_occur() -> None:
    spread: Any = Numbers.of([5, 1, 1, 2, 100]).spread()
    assert (spread.smallest, spread.median, spread.percentile_95, spread.largest) == (
        1,
        2,
        100,
        100,
    )
    assert (spread.total, spread.mean) == (109, 21.8)


@pytest.mark.filterwarnings("ignore")  # of the checkpoint maker's libraries
def test_a_real_processor_measures_outlines_as_it_measures_whole_rows(
    tmp_path: Path, tiny_qwen: Path
) -> None:
    from manako.core.family import family_of

    processor = family_of(tiny_qwen).open(tiny_qwen)
    with write_store(tmp_path / "set") as writer:
        for number in range(6):
            image = Image(tiny_png(30 + 28 * number, 60))
            turns = (
                Message("user", (image, Text("何色?"))),
                Message("assistant", (Text("白"),)),
            )
            writer.add(row_of(Conversation(turns, id=str(number))))
    store = Store.open(tmp_path / "set")
    assert [processor.measure(store.outline(n)) for n in range(6)] == [
        processor.encode(store.conversation(n)).lengths for n in range(6)
    ]
    tokens = take_census(store, measure=processor.measure).tokens
    assert tokens is not None
    assert (tokens.longest_row, tokens.refused) == ("5", {})
