"""One HTML page, and one table of text, from a comparison tree."""

from pyrolvm.report.answer import Answer, answer
from pyrolvm.report.page import render, write
from pyrolvm.report.sections import figures
from pyrolvm.report.table import columns, format_cells, unit

__all__ = ["Answer", "answer", "columns", "figures", "format_cells", "render", "unit", "write"]
