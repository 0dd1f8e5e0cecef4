"""Tests of compile.report.markup."""

from __future__ import annotations

from matplotlib.figure import Figure

from compile.report.markup import between, svg, table
from tests.unit.compile.report.test_report import Page


def test_a_table_escapes_what_it_shows() -> None:
    page = Page(table(("<a>", "b"), [("x & y", 1.005), (3, 2.5)]).encode())
    assert page.seen == ["table", "tr", "th", "th", "tr", "td", "td", "tr", "td", "td"]
    assert page.words == ["<a>", "b", "\n", "x & y", "1.00", "\n", "3", "2.50"]


def test_a_figure_with_its_interval() -> None:
    assert between(81.28, (80.514, 82.0)) == "81.28 [80.51, 82.00]"


def test_a_plot_is_one_element_and_the_same_every_time() -> None:
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().plot([0, 1], [1, 0])
    drawn = svg(figure)
    assert drawn.startswith("<svg") and drawn.rstrip().endswith("</svg>")
    assert Page(drawn.encode()).seen.count("svg") == 1
    assert svg(figure) == drawn
