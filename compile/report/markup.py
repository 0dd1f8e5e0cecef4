"""HTML for the parts of report.html: tables and plots."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["between", "svg", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Make a table.

    Args:
        head: Names of the columns.
        rows: Their values; a float is shown with two decimals.

    Returns:
        HTML, every value escaped.
    """
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"]
    lines += ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def between(value: float, interval: Sequence[float]) -> str:
    """Write a figure with its interval."""
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def svg(figure: Figure) -> str:
    """Draw a figure, made with the object interface: pyplot would look for a screen.

    Args:
        figure: The figure.

    Returns:
        An svg element, the same bytes every time.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "bert-rt", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.2f}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{html.escape(str(value))}</td>"
