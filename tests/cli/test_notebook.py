"""What a notebook shows of a run and of an evaluation: HTML that stands alone, with nothing in it but what was measured."""

from html.parser import HTMLParser

import numpy as np
import pytest

import calibrae as cb


class Reader(HTMLParser):
    """Collects the tags and the words of a page, and fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("notebook") / "<b>odd</b>"
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    return cb.fit(model, "digits", place, epochs=1, quiet=True, pictures=True)


def test_a_run_shows_its_numbers_and_pictures(run):
    page = Reader(run._repr_html_())
    words = " ".join(page.words)
    stored = run.folder.read_run()["validation"]
    assert f"{stored['elbo_nats']:.2f} ± {stored['elbo_standard_error']:.2f} nats" in words
    assert "<b>odd</b>" in words
    assert ("b", {}) not in page.tags
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ["reconstructions", "samples"]
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in pictures)


def test_a_run_that_is_gone_says_so(run, tmp_path):
    other = cb.Run(type(run.folder)(tmp_path / "gone"))
    assert "run.json" in other._repr_html_()


def test_an_evaluation_shows_what_it_prints(run):
    record = run.evaluate()
    words = " ".join(Reader(record._repr_html_()).words)
    for line in str(record).splitlines():
        for part in line.split("  "):
            assert part.strip().removeprefix("note: ") in words


def test_the_arrays_of_the_pictures_are_kept_in_the_units_of_the_data(run):
    with np.load(run.path / "pictures.npz") as stored:
        assert stored["samples"].dtype == np.uint8
        assert stored["samples"].shape == (40, 1, 8, 8)
        assert (stored["samples"] == run.sample(40)).all()
        assert stored["originals"].shape == stored["reconstructions"].shape
        known = run.reconstruct(split="validation", n=len(stored["originals"]))
        assert (stored["reconstructions"] == known).all()
        assert sorted(stored["traversal_latents"].tolist()) == [0, 1]
