"""The page: one file that loads nothing and runs nothing, with every row in it."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from torch import nn

from profiler import analyze
from profiler.report import Options, html

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags close in order; collects text by tag, and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.words, self.attributes = [], [], {}, []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def profile():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3)), nn.Flatten())
    return analyze(network.eval(), (1, 3, 8, 8))


@pytest.fixture(scope="module")
def text(profile):
    return html(profile, Options(title="a network", peers=("fvcore",)))


def test_nothing_is_loaded_and_nothing_runs(text):
    assert not re.search(r"https?:|//|src=|@import|url\(|<script|<link|<iframe|javascript:", text)
    assert not [a for a in Page(text).attributes if a[1].startswith("on") or a[1] == "style"]


def test_the_policy_allows_the_style_and_nothing_else(text):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert "prefers-color-scheme: dark" in style


def test_every_row_module_and_operation_is_there(text, profile):
    page = Page(text)
    assert page.seen.count("tr") == 2 + len(profile.layers) + len(profile.operators) + 2
    assert page.seen.count("details") == sum(bool(m.children) for m in profile.modules.walk())
    cells = page.words["td"]
    assert all(layer.name in cells for layer in profile.layers)
    assert "fvcore says" in "".join(page.words["li"])


def test_depth_says_how_far_the_tree_is_open(profile):
    opened = [html(profile, Options(depth=n)).count("<details open") for n in range(3)]
    assert opened == [0, 1, 2]


def test_names_are_escaped(profile):
    text = html(profile, Options(title='"><script>alert(1)</script>&'))
    assert Page(text).words["h1"] == ['"><script>alert(1)</script>&']
    assert "<script" not in text
