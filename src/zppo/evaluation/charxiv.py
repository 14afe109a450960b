"""CharXiv's questions: four kinds of reasoning question and nineteen descriptive templates.

The data set stores the number of a template, not its words. The questions below ask for the same
thing in our own words, and keep the conditions that decide the answer ("Not Applicable").
"""

from __future__ import annotations

from zppo.data.skips import RowProblem

_LEFT = (
    "If an axis stands on both sides, take the bottom or the left one. Leave out units and "
    "scales written apart from the tick."
)
_NOT = 'If there is none, the answer is "Not Applicable".'
_LINES = (
    "Grid lines, tick marks and auxiliary lines do not count. If this is not a line plot, the "
    'answer is "Not Applicable".'
)
_LEGEND = (
    "Only labels that belong to the plot count, also in a legend outside it. Without a legend for "
    'it, the answer is "Not Applicable".'
)
_BAR = 'Leave out a percent sign. Without a colorbar, the answer is "Not Applicable".'
_STEP = (
    f"{_LEFT} If there are no numerical ticks, or their difference is not constant, the answer is "
    '"Not Applicable".'
)

#: Template number: (question, condition). 18 and 19 ask about the whole figure.
DESCRIPTIVE: dict[int, tuple[str, str]] = {
    1: ("what is its title", f"Only a written title counts, not a letter alone. {_NOT}"),
    2: ("what is the label of the x-axis", f"Shared axes count; take the bottom one. {_NOT}"),
    3: ("what is the label of the y-axis", f"Shared axes count; take the left one. {_NOT}"),
    4: ("what is the leftmost labeled tick on the x-axis", _LEFT),
    5: ("what is the rightmost labeled tick on the x-axis", _LEFT),
    6: ("what is the spatially lowest labeled tick on the y-axis", _LEFT),
    7: ("what is the spatially highest labeled tick on the y-axis", _LEFT),
    8: ("what is the difference between consecutive numerical ticks on the x-axis", _STEP),
    9: ("what is the difference between consecutive numerical ticks on the y-axis", _STEP),
    10: ("how many lines are there", _LINES),
    11: ("do any lines intersect", f"Answer Yes or No. {_LINES}"),
    12: ("how many discrete labels are there in the legend", _LEGEND),
    13: (
        "what are the names of the labels in the legend",
        f"List them from top to bottom, then left to right, with commas. {_LEGEND}",
    ),
    14: ("what is the largest minus the smallest tick label of the colorbar", _BAR),
    15: ("what is the largest tick label of the colorbar", _BAR),
    16: (
        "what is the general trend of the data from left to right",
        'A few words, such as "increases then stabilizes".',
    ),
    17: (
        "what is the total number of explicitly labeled ticks across all axes",
        "Ticks of shared axes count.",
    ),
    18: (
        "What is the layout of the subplots",
        'Answer as "n by m", n rows and m columns; without subplots, "1 by 1".',
    ),
    19: ("What is the number of subplots", 'Without subplots, the answer is "1".'),
}
_WHOLE_FIGURE = (18, 19)

#: The seven rubrics of descriptive questions, by template.
RUBRICS: dict[int, str] = {
    1: "title",
    **dict.fromkeys((2, 3, 4, 5, 6, 7), "ocr"),
    **dict.fromkeys((8, 9, 10, 12, 14, 15, 17, 19), "quant"),
    11: "bool",
    13: "enum",
    16: "trend",
    18: "layout",
}

#: The four kinds of reasoning answer.
REASONING: dict[int, str] = {
    1: "text-in-chart",
    2: "text-in-general",
    3: "number-in-chart",
    4: "number-in-general",
}
_REASONING_FORM = {
    1: "The answer is text written in the chart.",
    2: "If the question names options, the answer is one of them; otherwise text in your words.",
    3: "The answer is a number written in the chart.",
}


def descriptive_question(template: int, subplot: str) -> str:
    """The question of a template, about `subplot` (empty: the only plot)."""
    if template not in DESCRIPTIVE:
        raise RowProblem("descriptive_q", "unknown template", f"{template} is not one of 1 to 19")
    question, condition = DESCRIPTIVE[template]
    if template in _WHOLE_FIGURE:
        return f"{question}?\n{condition}"
    where = f"For {subplot}" if subplot else "For the current plot"
    return f"{where}, {question}?\n{condition}"


def reasoning_question(question: str, source: int, gold: str) -> str:
    """The question with what its kind of answer asks for: the benchmark shows the number of
    decimal places of the gold answer where the answer is a computed number."""
    if source not in REASONING:
        raise RowProblem("reasoning_q_source", "unknown kind", f"{source} is not one of 1 to 4")
    return f"{question}\n{_REASONING_FORM.get(source) or _places(gold)}"


def _places(gold: str) -> str:
    decimals = gold.strip().partition(".")[2]
    if not decimals:
        return "The answer is a whole number."
    return f"The answer is a number with {len(decimals)} decimal places."
