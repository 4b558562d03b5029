import pytest
from report_makers import Page, conversation, encoded, write_samples

from manako.core.errors import InputError, MissingFileError
from manako.core.record import read_record
from manako.report import samples
from manako.report.events import Entry, sample_entry, write_entries
from manako.report.samples import write_samples_page


@pytest.fixture
def page(tmp_path):
    record = write_samples(tmp_path)
    return Page.read(write_samples_page(record, tmp_path / "page.html", lang="ja"))


def test_it_is_named_after_the_data_and_says_how_much_it_shows(page):
    assert page.one("h1").text == "tests"
    assert "全 40 件から" in page.words
    assert len(page.all("article", "sample")) == 2


def test_every_token_is_marked_by_what_becomes_of_it(page):
    strip = page.all("span", "t")
    shown = [e for e in strip if "title" in e.attributes]
    assert [e.text for e in shown if "y" in e.classes] == ["青", "<|end|>"]
    assert [e.text for e in shown if "i" in e.classes] == ["⟨画像 1 ×2⟩", "⟨画像 2 ×6⟩"]
    untrained = ["<|start|>", "user", "⏎", "左の絵", "何ですか。"]
    assert [e.text for e in shown if "n" in e.classes] == untrained
    assert [e.text for e in shown if "c" in e.classes] == ["<|start|>", "<|end|>"]


def test_a_token_tells_its_place_and_id(page):
    by_text = {
        e.text: e.attributes["title"] for e in page.all("span", "t") if "title" in e.attributes
    }
    assert by_text["<|start|>"] == "#0 · id 1"
    assert by_text["⟨画像 2 ×6⟩"] == "#6–11 · id 9"
    assert by_text["青"] == "#13 · id 40"


def test_the_picture_as_the_model_sees_it_has_its_token_grid(page):
    grids = page.all("svg", "grid")
    assert [g.attributes["viewbox"] for g in grids] == ["0 0 2 1", "0 0 3 2"]
    assert page.all("path", "g2")[1].attributes["d"] == "M0 1H3M1 0V2M2 0V2"
    assert "12 × 6 px → 18 × 12 px" in page.words
    assert "8 × 4 px（そのまま）" in page.words
    assert "2 行 × 3 列 = 6 トークン" in page.words


def test_counts_add_up(page):
    words = " ".join(page.one("div", "counts").text.split())
    assert words == "トークン 15 画像 8 学習しない 5 学習する 2"


def test_without_a_model_there_are_pictures_and_turns_but_no_tokens(tmp_path):
    record = write_entries(tmp_path, [sample_entry(conversation(), number=0)], verb="view")
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert not page.all("section", "tokens")
    assert not page.all("svg", "grid")
    assert len(page.all("img")) == 2
    assert "左の絵" in page.words


def test_a_refused_row_says_why(tmp_path):
    entry = sample_entry(conversation(), number=0, refused="row row-1: no answer\n  → add one")
    record = write_entries(tmp_path, [entry], verb="view")
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert "add one" in page.one("div", "alert").text


def test_a_torn_record_shows_what_was_whole(tmp_path):
    record = write_samples(tmp_path)
    with record.open("a", encoding="utf-8") as file:
        file.write('{"kind": "sample", "id": "torn')
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert len(page.all("article", "sample")) == 2
    assert "torn" not in page.words


def test_an_empty_record_says_so(tmp_path):
    record = write_entries(tmp_path, [], verb="view")
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert "There is no sample to show." in page.words


def test_events_may_be_handed_over_without_a_file(tmp_path):
    events = read_record(write_samples(tmp_path)).events
    out = write_samples_page(events, tmp_path / "page.html", lang="ja", folder=tmp_path)
    assert len(Page.read(out).all("img")) == 6


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ({"images": []}, "no picture 0"),
        ({"images": [{"file": "pictures/gone.png"}] * 2}, "no file pictures/gone.png"),
        ({"images": [{"error": "cut short"}] * 2}, "cut short"),
    ],
)
def test_a_picture_that_cannot_be_shown_leaves_its_reason(tmp_path, damage, word):
    event = sample_entry(conversation(), number=0).event | damage
    record = write_entries(tmp_path, [Entry(event)], verb="view")
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert not page.all("img")
    assert word in page.words


def test_events_with_the_least_fields_still_show(tmp_path):
    record = write_entries(tmp_path, [Entry({"kind": "sample"})], verb="view")
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert len(page.all("article", "sample")) == 1


def test_a_page_that_would_grow_too_large_leaves_pictures_out_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "MAX_PAGE_PICTURE_BYTES", 300)
    record = write_samples(tmp_path)
    page = Page.read(write_samples_page(record, tmp_path / "page.html", lang="en"))
    assert 1 <= len(page.all("img")) < 6
    assert "the page would grow too large" in page.words


def test_no_record_is_an_error_that_names_it(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.jsonl"):
        write_samples_page(tmp_path / "nowhere.jsonl", tmp_path / "page.html", lang="en")
    (tmp_path / "no.jsonl").write_text("[1]\n", "utf-8")
    with pytest.raises(InputError, match=r"no\.jsonl"):
        write_samples_page(tmp_path / "no.jsonl", tmp_path / "page.html", lang="en")


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    record = write_samples(tmp_path)
    out = tmp_path / "page.html"
    out.write_text("before", "utf-8")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_samples_page(record, out, lang="en")
    assert out.read_text("utf-8") == "before"
    assert encoded().example.tokens
