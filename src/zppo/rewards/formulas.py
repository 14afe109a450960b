r"""Chemical formulas: H2O, H_2O and \mathrm{H_{2}O} are one, CO and Co are not."""

from __future__ import annotations

import re

_ELEMENTS = re.compile(
    "A[cglmrstu]|B[aeikr]?|C[adeflmorsu]?|D[by]|E[rsu]|F[emr]?|G[ade]|H[efgo]?|I[nr]?|Kr?"
    "|L[airu]|M[dgno]|N[abdeiop]?|Os?|P[abdmortu]?|R[abehnu]|S[bceimnr]?|T[abcehilm]|U|V|W|Xe"
    "|Yb?|Z[nr]"
)
_INDEX = re.compile(r" ?_ ?(?:\{ ?(\d{1,3}) ?\}|(\d))")
_CHARGE = re.compile(r" ?\^ ?(?:\{ ?(\d?[+-]) ?\}|(\d?[+-]))$")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?\d{0,3}|[()\[\]]\d{0,3})+(?:\d?[+-])?")
_SYMBOL = re.compile(r"[A-Z][a-z]?")


def same_formula(answer: str, gold: str) -> bool:
    """Whether two cleaned texts are one formula; case counts."""
    ours = formula(answer)
    return ours is not None and ours == formula(gold)


def formula(text: str) -> str | None:
    """A cleaned text with indices and charge on the line, None when it is no formula."""
    if len(text) > 60:
        return None
    text = _CHARGE.sub(lambda m: m[1] or m[2], text)
    text = _INDEX.sub(lambda m: m[1] or m[2], text)
    if _FORMULA.fullmatch(text) is None:
        return None
    return text if all(map(_ELEMENTS.fullmatch, _SYMBOL.findall(text))) else None
