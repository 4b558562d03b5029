import json
import shutil

import pytest
from report_makers import HOSTILE, RESULT, Page, write_run

from manako.core.errors import InputError, MissingFileError
from manako.core.record import RecordWriter
from manako.report import run as run_module
from manako.report.run import choose_predictions, read_run, write_run_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "first")


def report(folder, lang="en"):
    return Page.read(write_run_report(folder, lang=lang))


def section_ids(page):
    return [e.attributes["id"] for e in page.all("section") if "id" in e.attributes]


def test_everything_that_was_recorded_is_shown(folder):
    page = report(folder)
    assert page.one("h1").text == "first finished"
    assert section_ids(page) == ["results", "curves", "predictions", "masks", "settings"]
    assert page.one("dl", "big").text == " Accuracy 80.0% 95% interval 49.0–94.0%"
    tiles = page.one("dl", "tiles").text
    for word in ("Test questions 10", "1 min 15 s", "30", "3 epochs", "600 trained", "97.0%"):
        assert word in tiles


def test_operations_stand_below_the_speed_where_they_are_known(folder):
    assert "TFLOP" not in report(folder).one("dl", "tiles").text
    with RecordWriter(folder / "record.jsonl", verb="train") as record:
        record.write("step", step=31, tokens_per_second=905.0, tflops=395.6, mfu=0.4)
    tiles = report(folder).one("dl", "tiles").text
    assert "tokens/s, 396 TFLOP/s per device, 40.0% of its peak" in tiles


def test_it_lands_beside_the_record_or_where_it_is_sent(folder, tmp_path):
    assert write_run_report(folder, lang="ja") == folder / "report.html"
    assert write_run_report(folder, lang="ja", out=tmp_path / "a" / "b.html").is_file()


def test_kinds_are_listed_with_interval_controls_and_a_warning(folder):
    page = report(folder)
    rows = [e for e in page.all("tr") if "Read one digit" in e.text or "made <up>" in e.text]
    assert [" ".join(r.text.split()) for r in rows] == [
        "Read one digit 90.0% 50.0–99.0 5 21.0 20.0 20.0",
        "made <up> ⚠ 70.0% 30.0–90.0 5 50.0 30.0 30.0",
    ]
    assert "more than 5 points" in page.words


def test_languages_stand_between_kinds_and_all_questions(folder):
    first = [e.text.strip() for e in report(folder).all("th") if e.attributes.get("scope") == "row"]
    assert first[2:5] == ["Questions in Japanese", "Questions in English", "All questions"]


def test_memory_stands_beside_what_was_predicted(folder):
    assert "600 MB predicted 500 MB–700 MB" in report(folder).one("dl", "tiles").text
    whole = RESULT | {"peak_memory_bytes": 900_000_000}
    (folder / "result.json").write_text(json.dumps(whole), "utf-8")
    tiles = report(folder).one("dl", "tiles").text
    assert "900 MB 600 MB in training, predicted 500 MB–700 MB" in tiles
    (folder / "plan.json").unlink()
    assert "predicted" not in report(folder).one("dl", "tiles").text


def test_every_curve_of_the_record_is_drawn(folder):
    titles = [
        e.attributes["aria-label"]
        for e in report(folder).all("svg")
        if "aria-label" in e.attributes
    ]
    assert titles == [
        "Loss",
        "Learning rate",
        "Speed (tokens/s)",
        "Gradient norm",
        "Pack fill",
        "Memory",
        "Waiting for data",
    ]


def test_parts_with_equal_rates_share_one_curve(folder):
    with RecordWriter(folder / "record.jsonl", verb="train") as record:
        for step in (31, 32):
            record.write("step", step=step, learning_rates={"vision": 1e-3, "language": 1e-3})
    keys = [e.text for e in report(folder).all("span", "key")]
    assert any(key.startswith("Vision ") for key in keys)
    (folder / "record.jsonl").unlink()
    with RecordWriter(folder / "record.jsonl", verb="train") as record:
        record.write("step", step=1, learning_rates={"vision": 1e-3, "language": 1e-3})
    assert any("Vision · Language" in e.text for e in report(folder).all("span", "key"))


def test_a_loss_that_came_apart_is_said(folder):
    with RecordWriter(folder / "record.jsonl", verb="train") as record:
        record.write("step", step=31, loss=float("nan"))
        record.write("step", step=32, loss=float("inf"))
    page = report(folder)
    assert "2 values are not numbers, the first at step 31" in page.words


def test_predictions_stand_beside_their_pictures_and_can_be_filtered(folder):
    page = report(folder)
    cards = page.all("article", "guess")
    assert len(cards) == 10
    assert sorted(c.attributes["data-state"] for c in cards) == ["no"] * 2 + ["ok"] * 8
    assert {c.attributes["data-group"] for c in cards} == {"read_one", "made <up>"}
    wrong = [" ".join(c.text.split()) for c in cards if c.attributes["data-state"] == "no"]
    assert all("✗ x Expected" in text for text in wrong)
    assert [e.attributes["value"] for e in page.all("option")] == ["", "read_one", "made <up>"]
    assert [e.attributes["value"] for e in page.all("button") if "value" in e.attributes] == [
        "",
        "ok",
        "no",
    ]


def test_of_many_predictions_wrong_ones_are_not_crowded_out(folder, monkeypatch):
    monkeypatch.setattr(run_module, "MAX_PREDICTIONS", 4)
    chosen, total = choose_predictions(read_run(folder).evaluation, folder / "evaluation")
    assert total == 10
    assert sum(not one.is_right for one in chosen) == 2
    assert {one.group for one in chosen} == {"read_one", "made <up>"}
    assert "4 of 10 questions are on this page" in report(folder).words


def test_pictures_of_predictions_stay_within_their_share(folder, monkeypatch):
    monkeypatch.setattr(run_module, "MAX_PREDICTION_BYTES", 200)
    chosen, total = choose_predictions(read_run(folder).evaluation, folder / "evaluation")
    assert 0 < len(chosen) < total


@pytest.mark.parametrize(
    ("gone", "sections"),
    [
        ("result.json", ["curves", "predictions", "masks", "settings"]),
        ("evaluation", ["results", "curves", "masks", "settings"]),
        ("samples", ["results", "curves", "predictions", "settings"]),
        ("record.jsonl", ["results", "predictions", "masks", "settings"]),
        ("recipe.yaml", ["results", "curves", "predictions", "masks", "settings"]),
        ("state.json", ["results", "curves", "predictions", "masks", "settings"]),
    ],
)
@pytest.mark.parametrize("lang", ["ja", "en"])
def test_what_is_absent_is_left_out(folder, gone, sections, lang):
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = report(folder, lang)
    assert section_ids(page) == sections
    assert [a.attributes["href"][1:] for a in page.all("a")] == sections


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
    with RecordWriter(tmp_path / "record.jsonl", verb="train") as record:
        record.write("setup", total_steps=10)
    page = report(tmp_path)
    assert section_ids(page) == ["settings"]
    assert not page.all("dl", "big")


def test_parts_and_rates_come_from_the_setup_or_else_from_the_recipe(folder):
    def parts():
        return [" ".join(e.text.split()) for e in report(folder).all("tr") if "Language" in e.text]

    assert parts() == ["Language full 0.001 600"]
    (folder / "record.jsonl").unlink()
    assert parts() == ["Language 1e-3 –"]


def test_a_torn_record_is_read_to_its_last_whole_line(folder):
    with (folder / "record.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "step", "step": 99, "lo')
    assert "99" not in report(folder).one("dl", "tiles").text


def test_hostile_names_and_answers_stay_text(folder):
    result = json.loads((folder / "result.json").read_text("utf-8"))
    result["by_kind"] = {HOSTILE: {"n": 5, "accuracy": 0.5}}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    (folder / "recipe.yaml").write_text(f"model: |\n  {HOSTILE}\n", "utf-8")
    record = folder / "evaluation" / "record.jsonl"
    events = [json.loads(line) for line in record.read_text("utf-8").splitlines()]
    for event in events[1:]:
        event |= {"answer": HOSTILE, "expected": HOSTILE, "group": HOSTILE, "correct": False}
    record.write_text("".join(json.dumps(e) + "\n" for e in events), "utf-8")
    page = report(folder)
    assert len(page.all("script")) == 1
    assert not any("onerror" in element.attributes for element in page.elements)
    assert page.words.count(HOSTILE) >= 12


def test_a_folder_without_a_run_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(MissingFileError, match="holds no run") as error:
        write_run_report(tmp_path, lang="en")
    assert "output_dir" in error.value.next_step


@pytest.mark.parametrize(
    ("name", "text"),
    [("result.json", "{"), ("result.json", "[]"), ("recipe.yaml", "a: ["), ("record.jsonl", "x\n")],
)
def test_a_broken_file_is_named(folder, name, text):
    (folder / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        write_run_report(folder, lang="en")


def test_the_same_files_give_the_same_page(folder, tmp_path):
    one, two = (write_run_report(folder, lang="ja", out=tmp_path / n) for n in ("1", "2"))
    assert one.read_bytes() == two.read_bytes()
