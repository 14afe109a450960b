# ruff: noqa: RUF001 - characters that look alike are what this file is about
r"""One spelling for the many ways to write the same answer: Unicode and LaTeX down to a small
LaTeX-like alphabet that the parsers of this package read.

After `clean`: ASCII operators and digits, commands without variants (`\frac`, `\le`, `\cup`),
`°` and `%` for degrees and percent, `\$` for the currency, text commands unwrapped, single spaces.
The order of the steps matters and is the order of `clean`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SYMBOLS = {
    **dict.fromkeys("−–—‒﹣－", "-"),
    **dict.fromkeys("×✕✖", r"\times "),
    **dict.fromkeys("·⋅∙•", r"\cdot "),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("∗✱", "*"),
    **dict.fromkeys("’′ʹ", "'"),
    **dict.fromkeys("“”„″", '"'),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∞": r"\infty ", "±": r"\pm ", "∓": r"\mp ", "∅": r"\emptyset ", "∠": r"\angle ",
    "△": r"\triangle ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}", "℃": r"^\circ C", "℉": r"^\circ F", "º": "°", "˚": "°", "，": ", ",
    "。": ".", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ",
    "ε": r"\epsilon ", "θ": r"\theta ", "λ": r"\lambda ", "ρ": r"\rho ", "σ": r"\sigma ",
    "τ": r"\tau ", "ζ": r"\zeta ", "η": r"\eta ", "ι": r"\iota ", "κ": r"\kappa ",
    "ν": r"\nu ", "ξ": r"\xi ", "χ": r"\chi ", "ψ": r"\psi ", "Γ": r"\Gamma ", "Θ": r"\Theta ",
    "Λ": r"\Lambda ", "Ξ": r"\Xi ", "Σ": r"\Sigma ", "Φ": r"\Phi ", "Ψ": r"\Psi ", "Ω": r"\Omega ",
    "μ": r"\mu ", "⩽": r"\le ", "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ",
    "φ": r"\phi ", "ϕ": r"\phi ", "ω": r"\omega ", "π": r"\pi ", "Δ": r"\Delta ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
}  # fmt: skip
_SYMBOL_TABLE = str.maketrans(_SYMBOLS)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢₓ]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?)?")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}

_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|emph|mathrm|mathbf|mathit|mathsf"
    r"|mathtt|mathcal|boldsymbol|bm|mbox|hbox|operatorname\*?|boxed|fbox|underline|ensuremath)"
    r"\s*\{([^{}]*)\}"
)
_COLOR = re.compile(r"\\(?:text)?color\s*\{[^{}]*\}")
_NOISE = re.compile(
    r"(\\\\)(?: ?\[[\d.]+ ?(?:pt|em|ex|mm)\])?"  # a line break of a matrix stays
    r"|\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|mathstrut"
    r"|mathrm|mathbf|mathit|rm|bf|it|tt)(?![A-Za-z])\.?"
    r"|\\(?:tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])"
    r"|\\[()\[\]!]"
)
_OVER = re.compile(r"\{([^{}]*)\\(over|choose)(?![A-Za-z])([^{}]*)\}")
_SPACE = re.compile(r"(\\\\)|\\[,;:> ]|~|\\q?quad(?![A-Za-z])|\\hspace\*?\{[^{}]*\}|\s+")
_SAME = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "dbinom": r"\binom",
    "tbinom": r"\binom", "leq": r"\le", "leqslant": r"\le", "geq": r"\ge", "geqslant": r"\ge",
    "lt": "<", "gt": ">", "neq": r"\ne", "infin": r"\infty", "ast": "*", "div": "/",
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "lvert": "|", "rvert": "|",
    "vert": "|", "mid": "|", "varnothing": r"\emptyset", "degree": "°", "textdegree": "°",
    "prime": "'", "lor": " or ", "vee": " or ", "land": " and ", "varphi": r"\phi",
    "varepsilon": r"\epsilon", "simeq": r"\approx", "doteq": r"\approx", "dots": r"\ldots",
    "cdots": r"\ldots", "lg": r"\log", "arcsec": r"\arcsec", "R": r"\mathbb{R}",
    "reals": r"\mathbb{R}", "langle": "(", "rangle": ")", "euro": "€", "pounds": "£",
    "textdollar": r"\$", "deg": "°",
}  # fmt: skip
_COMMAND = re.compile(r"(\\\\)|\\([A-Za-z]+)")
_DOLLAR = re.compile(r"(?<!\\)\$")
_DEGREE = re.compile(r"\^\s*(?:\{\s*(?:\\circ|°)\s*\}|\\circ|°)")
_WORDS = (
    (re.compile(r"(?<=[\d}°)]) ?(?:° ?|degrees? )(?:C|[cC]elsius)\b"), " degC"),
    (re.compile(r"(?<=[\d}°)]) ?(?:° ?|degrees? )(?:F|[fF]ahrenheit)\b"), " degF"),
    (re.compile(r"(?<=[\d}) ]) ?deg(?:ree)?s?\b\.?(?: angles?\b)?"), "°"),
    (re.compile(r"(?<=[\d}) ]) ?per ?cent\b"), "%"),
    (re.compile(r" ([°%])"), r"\1"),
    (re.compile(r"(\d) ?[xX] ?(?=10 ?(?:\^|\*\*))"), r"\1\\times "),
    (re.compile(r"(?<=[\d}) ])\\mu ?(?=(?:m|s|g|[lL]|A|V|W|F|C|J|N|mol)\b)"), "µ"),
    (re.compile(r"(?<=[\d}) ]) ?([kKMmGµ]?) ?\\Omega(?![A-Za-z])"), r" \1ohm"),
    (re.compile(r"(?<!\S)(\d+) ?' ?(\d+(?:\.\d+)?) ?(?:\"|'')$"), r"\1 ft \2 in"),
    (re.compile(r"(?<!\S)(\d+(?:\.\d+)?)'$"), r"\1 ft"),
    (re.compile(r"(\.\d{0,30}?)(\d{1,6}?)\2{2,40}(?:\.\.\.|\\ldots)"), r"\1\\overline{\2}"),
    (
        re.compile(
            r"^(?:the set of )?(?:(?:all )?(?:the )?real numbers|(?:all|the) reals)\.?$", re.I
        ),
        r"\\mathbb{R}",
    ),
)
_MARK = re.compile(r"(?<=[\w})\]])°|%")
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,] )(?<![\d.,])\d{1,3}(?: \d{3})+(?! ?[\d/])")
_MIXED = re.compile(r"(?<![\d.,^_{] )(?<![\d.,^_{])(\d+) (\d+) ?/ ?(\d+)(?![\d.])")
_LEAD = re.compile(
    r"(?:so |thus |therefore |hence )?,? ?(?:the )?(?:final |correct )*(?:answer|option|choice)"
    r"(?: is| ?:|:| =)|(?:=|\\approx(?![A-Za-z]))(?!=)"
    r"|(?:approximately|approx\.?|about|roughly) (?=[-\d.\\])",
    re.IGNORECASE,
)


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    """`text` in the one spelling. Meaning is kept: units, words and brackets are still there."""
    text = _latex(_unicode(text))
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    text = _SPACED_THOUSANDS.sub(lambda m: m[0].replace(" ", ""), text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    return _trim(text)


def strip_marks(text: str) -> str:
    """A cleaned `text` without degree and percent marks (the second pass of method section 7)."""
    return _MARK.sub("", text).strip()


def compact(text: str) -> str:
    """A cleaned `text` as a string to compare: spaces only between letters and digits."""
    text = re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])", "", text)
    return re.sub(r"\{(\w)\}", r"\1", text)


def _unicode(text: str) -> str:
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^{" + unicodedata.normalize("NFKC", m[0]) + "}", text)
    text = _LOWERED.sub(lambda m: "_{" + unicodedata.normalize("NFKC", m[0]) + "}", text)
    text = _VULGAR.sub(_vulgar, text)
    text = _ROOT.sub(lambda m: _ROOTS[m[1]] + (f"{{{m[2]}}}" if m[2] else " "), text)
    text = unicodedata.normalize("NFKC", text.translate(_SYMBOL_TABLE))
    return text.translate(_SYMBOL_TABLE)


def _vulgar(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return f"\\frac{{{top}}}{{{bottom}}}" if bottom else match[0]


def _latex(text: str) -> str:
    if "\\" in text:
        text = _COLOR.sub("", text)
        for _ in range(4):  # wrappers in wrappers
            text, count = _TEXT.subn(r" \1 ", text)
            if not count:
                break
        text = _NOISE.sub(lambda m: m[1] or "", text)
        if "\\over" in text or "\\choose" in text:
            text = _OVER.sub(_fraction, f"{{{text}}}" if "{" not in text else text)
    text = text.replace("{,}", ",")
    text = _SPACE.sub(lambda m: m[1] or " ", text)
    if "\\" in text:
        text = _COMMAND.sub(lambda m: m[1] or _SAME.get(m[2], m[0]), text)
    text = _dollars(text).replace("\\%", "%").replace("\\#", "#").replace("\\&", "&")
    return _DEGREE.sub("°", text).replace("^'", "'") if "^" in text else text


def _fraction(match: re.Match[str]) -> str:
    """TeX's own {a \\over b} and {n \\choose k}."""
    command = "\\frac" if match[2] == "over" else "\\binom"
    return f"{command}{{{match[1].strip()}}}{{{match[3].strip()}}}"


def _dollars(text: str) -> str:
    r"""Math delimiters go, the currency becomes `\$`: an odd `$` before a number is money."""
    count = len(_DOLLAR.findall(text))
    if count % 2:
        text = re.sub(r"(?<!\\)\$(?= ?-?[\d.])", r"\\$", text, count=1)
    return _DOLLAR.sub("", text) if count else text


def _trim(text: str) -> str:
    """Without a lead-in ("the answer is"), quotes, closing punctuation and outer braces."""
    for _ in range(6):
        before = text
        text = _LEAD.sub("", text.strip(), count=1) if _LEAD.match(text.strip()) else text
        text = text.strip(' "*`').rstrip(".,;:? ").removesuffix("\\\\")
        text = text.removesuffix(" \\")  # a control space at the end
        if len(text) > 2 and text[0] == text[-1] == "'":
            text = text[1:-1]
        if text.startswith("{") and _closes_at_end(text):
            text = text[1:-1]
        if text == before:
            break
    text = re.sub(r" {2,}", " ", text)
    return "\\emptyset" if text in ("\\{\\}", "\\{ \\}") else text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for index, char in enumerate(text):
        if char in "{}" and (index == 0 or text[index - 1] != "\\"):
            depth += 1 if char == "{" else -1
            if depth == 0:
                return index == len(text) - 1
    return False
