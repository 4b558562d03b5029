"""What holds for every page: self-contained, escaped, well-formed, readable without a network."""

import base64
import hashlib
import re

import pytest
from report_makers import HOSTILE, SVG_TAGS, Page, decode, write_run, write_samples

from manako.report.run import write_run_report
from manako.report.samples import write_samples_page

URL_ATTRIBUTES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction")
MAX_REPORT_BYTES = 3_000_000


@pytest.fixture(scope="module", params=["ja", "en"])
def lang(request):
    return request.param


@pytest.fixture(scope="module", params=["samples", "run"])
def path(request, lang, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    if request.param == "run":
        return write_run_report(write_run(folder), lang=lang)
    return write_samples_page(write_samples(folder), folder / "page.html", lang=lang)


@pytest.fixture(scope="module")
def page(path):
    return Page.read(path)


def test_it_says_its_language(page, lang):
    assert page.one("html").attributes["lang"] == lang
    assert page.one("title").text.endswith("· Manako")


def test_nothing_is_loaded_from_anywhere(page):
    urls = [
        element.attributes[name]
        for element in page.elements
        for name in URL_ATTRIBUTES
        if name in element.attributes
    ]
    assert urls
    assert all(url.startswith(("data:image/", "#")) for url in urls)
    assert not page.all("link")
    assert not page.all("iframe")
    style = page.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?://", page.html)


def test_every_picture_decodes_and_has_words_for_who_cannot_see_it(page):
    pictures = page.all("img")
    assert pictures
    for picture in pictures:
        decode(picture.attributes["src"])
        assert picture.attributes["alt"]
        assert int(picture.attributes["width"]) > 0


def test_links_within_the_page_lead_somewhere(page):
    ids = {element.attributes["id"] for element in page.elements if "id" in element.attributes}
    targets = [e.attributes["href"][1:] for e in page.all("a")]
    assert set(targets) <= ids


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(page):
    (policy,) = [
        element.attributes["content"]
        for element in page.all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        digest = hashlib.sha256(page.one(tag).text.encode("utf-8")).digest()
        assert f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_no_attribute_needs_what_the_policy_forbids(page):
    for element in page.elements:
        assert "style" not in element.attributes
        assert not any(name.startswith("on") for name in element.attributes)


def test_drawings_have_numbers_for_coordinates(page):
    for element in page.elements:
        if element.tag in SVG_TAGS:
            values = " ".join(element.attributes.values())
            assert "nan" not in values.lower()
            assert "none" not in values.lower()


def test_its_size_is_modest(path):
    assert path.stat().st_size < MAX_REPORT_BYTES


@pytest.mark.parametrize("where", ["question", "answer", "id", "source"])
def test_hostile_text_stays_text(tmp_path, where):
    out = write_samples_page(
        write_samples(tmp_path, **{where: HOSTILE}), tmp_path / "page.html", lang="ja"
    )
    page = Page.read(out)
    assert len(page.all("script")) == 1
    assert not any("onerror" in element.attributes for element in page.elements)
    assert HOSTILE in page.words


def test_half_characters_in_the_data_do_not_stop_a_page(tmp_path):
    record = write_samples(tmp_path)
    text = record.read_text("utf-8").replace("何ですか。", "\\ud83d?")
    record.write_text(text, "utf-8")
    out = write_samples_page(record, tmp_path / "page.html", lang="en")
    assert "D83D" in Page.read(out).words
