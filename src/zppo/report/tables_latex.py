"""A table for a paper: booktabs, everything escaped."""

from __future__ import annotations

from zppo.report.tables import Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "|": r"\textbar{}",
}


def latex(table: Table) -> str:
    """A `table` environment; the document needs `\\usepackage{booktabs}`."""
    align = "l" * table.labels + "r" * (len(table.columns) - table.labels)
    note = f" {escape(table.note)}" if table.note else ""
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(table.title)}.{note}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            _row(table.columns),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_ESCAPES.get(char, char) for char in text)


def _row(cells: tuple[str, ...]) -> str:
    # A minus sign is not a hyphen: numbers are set in math where they begin with one.
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    number = text.startswith(("-", "+")) and text[1:].replace(".", "", 1).isdigit()
    return f"${text}$" if number else escape(text)
