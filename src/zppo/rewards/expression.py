r"""A recursive-descent reader of one mathematical expression, cleaned by `normalize.clean`.

    sum      ['+'|'-'|'\pm'|'\mp'] product  { ('+'|'-'|'\pm'|'\mp') product }
    product  power { ['*'|'/'|'\times'|'\cdot'] power }        juxtaposition multiplies
    power    atom { '^' exponent | '!' | '!!' | '%' | '°' }
    atom     number | symbol | group | \frac | \binom | \sqrt | function | |sum| | floor | ceiling

Nothing is evaluated here and nothing is ever handed to `eval` or to a computer algebra system.
Work is linear in the input and the depth is bounded; what the grammar does not know raises
`Unreadable`, and such answers are compared as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from zppo.rewards.limits import MAX_DEPTH, Unreadable
from zppo.rewards.literals import (
    ACCENTS,
    FUNCTIONS,
    NAMES,
    NOT_ATOMS,
    SUBSCRIPT,
    WORD_CONSTANTS,
    read_number,
)
from zppo.rewards.nodes import Node, Num, Op, Sym

_LETTERS = re.compile(r"[A-Za-z]+")
_COMMAND = re.compile(r"\\([A-Za-z]+) ?")
_NEXT_NAME = re.compile(r" *\\?([A-Za-z]+)")
_ACCENTED = re.compile(r"\{([^{}]*)\}|[A-Za-z]+")
_CLOSER = {"(": ")", "[": "]", "{": "}", "|": "|"}
_VARIABLES = frozenset("abcdmnpqrstuvwxyz")
_SIGNS = (("+", ""), ("-", "neg"), ("\\pm", "pm"), ("\\mp", "mp"))
_ONE = Num(Fraction(1))
_TWO = Num(Fraction(2))


def parse(text: str) -> Node:
    """The expression tree of a cleaned `text`; raises `Unreadable`."""
    reader = _Reader(text)
    node = reader.sum()
    if reader.peek():
        raise Unreadable(f"left over at {reader.at}")
    return node


def _marked(node: Node) -> tuple[Node, ...]:
    """A number with % or ° as the number and what the mark multiplies it with."""
    return node.args if isinstance(node, Op) and node.name == "*" else (node,)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.bars = 0  # open |...|, inside which a bar closes

    def peek(self) -> str:
        """The next character after spaces, empty at the end."""
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, token: str) -> bool:
        """Step over `token` when it is next. A command is not taken out of a longer one."""
        self.peek()
        if not self.text.startswith(token, self.at):
            return False
        end = self.at + len(token)
        if token[-1].isalpha() and self.text[end : end + 1].isalpha():
            return False
        self.at = end
        return True

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise Unreadable(f"no {token!r} at {self.at}")

    # ---- the grammar, one method a line of it

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        terms = [self._signed() or self.product()]
        while (term := self._signed()) is not None:
            terms.append(term)
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Op("+", tuple(terms))

    def _signed(self) -> Node | None:
        name = next((name for token, name in _SIGNS if self.take(token)), None)
        if name is None:
            return None
        node = self.product()
        return Op(name, (node,)) if name else node

    def product(self) -> Node:
        factors: list[Node] = [self.power()]
        while True:
            if self.take("/"):
                factors.append(Op("inv", (self._factor(),)))
            elif self.take("**"):
                raise Unreadable("power after a product")
            elif self.take("*") or self.take("\\times") or self.take("\\cdot"):
                factors.append(self._factor())
            elif self._juxtaposed():
                start = self.at
                factor = self.power()
                # 33\frac13\%: the mark belongs to the whole number as well
                part, *marks = _marked(factor)
                if len(factors) == 1 and self._is_mixed(factors[0], part, start):
                    factors = [Op("+", (factors[0], part)), *marks]
                else:
                    factors.append(factor)
            else:
                return factors[0] if len(factors) == 1 else Op("*", tuple(factors))

    def _factor(self) -> Node:
        return Op("neg", (self.power(),)) if self.take("-") else self.power()

    def _juxtaposed(self) -> bool:
        char = self.peek()
        if char.isdigit() or char == ".":  # (2)3 multiplies, 2 3 and x 2 are no expression
            return self.text[: self.at].rstrip()[-1:] in (")", "}", "]", "!")
        if char == "\\":
            match = _COMMAND.match(self.text, self.at)
            return match is not None and match[1] not in NOT_ATOMS
        return char in ("(", "{", "[") or char.isalpha() or (char == "|" and not self.bars)

    def _is_mixed(self, whole: Node, part: Node, start: int) -> bool:
        """2\\frac{1}{3} is seven thirds, as everyone but TeX reads it."""
        return (
            isinstance(whole, Num)
            and whole.value.denominator == 1
            and self.text.startswith("\\frac", start)
            and isinstance(part, Op)
            and part.name == "frac"
            and all(isinstance(arg, Num) for arg in part.args)
        )

    def power(self) -> Node:
        node = self.atom()
        for _ in range(MAX_DEPTH):
            if self.take("^") or self.take("**"):
                node = Op("pow", (node, self._exponent()))
            elif self.take("!"):
                double = self.text[self.at : self.at + 1] == "!"
                self.at += double
                if self.peek() == "!":
                    raise Unreadable("a factorial of a factorial")
                node = Op("fact2" if double else "fact", (node,))
            elif self.take("%"):
                node = Op("*", (node, Num(Fraction(1, 100))))
            elif self.take("°"):
                node = Op("*", (node, Sym("pi"), Num(Fraction(1, 180))))
            else:
                return node
        raise Unreadable("too many postfixes")

    def _exponent(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        node = Op("neg", (self.atom(),)) if self.take("-") else self.atom()
        if self.take("^") or self.take("**"):  # 9^9^9 associates to the right
            node = Op("pow", (node, self._exponent()))
        self.depth -= 1
        return node

    def atom(self) -> Node:
        char = self.peek()
        if char.isdigit() or char == ".":
            return self._number()
        if char in _CLOSER:
            return self._group(char)
        if char == "\\":
            return self._command()
        if char.isalpha() and char.isascii():
            return self._word()
        raise Unreadable(f"{char!r} at {self.at}")

    def _group(self, opener: str) -> Node:
        self.at += 1
        bars = self.bars
        self.bars = bars + 1 if opener == "|" else 0
        node = self.sum()
        self.bars = bars
        self.expect(_CLOSER[opener])
        return Op("abs", (node,)) if opener == "|" else node

    def _number(self) -> Node:
        node, self.at = read_number(self.text, self.at)
        return node

    def _word(self) -> Node:
        """A run of letters: a function, a constant, or variables side by side."""
        match = _LETTERS.match(self.text, self.at)
        assert match is not None
        run = match[0]
        if run in WORD_CONSTANTS:
            self.at = match.end()
            return Sym(WORD_CONSTANTS[run])
        name = next((run[:n] for n in range(6, 1, -1) if run[:n] in FUNCTIONS), None)
        if name is not None and len(run) <= len(name) + 1:
            self.at += len(name)
            return self._function(name)
        if len(run) > 2 and not (set(run) <= _VARIABLES and list(run) == sorted(set(run))):
            raise Unreadable(f"the word {run!r}")
        self.at += 1
        return Sym(run[0] + self._scripts())

    def _scripts(self) -> str:
        """Subscript and primes, part of a name."""
        found = ""
        if match := SUBSCRIPT.match(self.text, self.at):
            self.at = match.end()
            found = "_" + (match[1] or match[2] or "").replace(" ", "")
        while self.text[self.at : self.at + 1] == "'":
            self.at += 1
            found += "'"
        return found

    def _command(self) -> Node:
        match = _COMMAND.match(self.text, self.at)
        if match is None:
            raise Unreadable("an escape")
        self.at, name = match.end(), match[1]
        if name == "frac":
            return Op("frac", (self._argument(), self._argument()))
        if name == "binom":
            return Op("binom", (self._argument(), self._argument()))
        if name == "sqrt":
            return self._root()
        if name in ("lfloor", "lceil"):
            node = self.sum()
            self.expect("\\r" + name[1:])
            return Op(name[1:], (node,))
        if name in FUNCTIONS:
            return self._function(name)
        if name in NAMES:
            return Sym(name + self._scripts())
        if name in ACCENTS:
            return Sym(f"{name} {self._raw()}{self._scripts()}")
        raise Unreadable(f"the command {name!r}")

    def _raw(self) -> str:
        match = _ACCENTED.match(self.text, self.at)
        if match is None:
            raise Unreadable("an accent over nothing")
        self.at = match.end()
        return match[0].strip("{} ")

    def _argument(self) -> Node:
        """What TeX takes as an argument: a group, one digit, one letter or one command."""
        char = self.peek()
        if char == "{":
            return self._group(char)
        if char.isdigit():
            self.at += 1
            return Num(Fraction(int(char)))
        if char.isalpha() and char.isascii():
            self.at += 1
            return Sym(char)
        if char == "\\":
            return self._nested(self._command)
        raise Unreadable("no argument")

    def _nested(self, read: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        node = read()
        self.depth -= 1
        return node

    def _root(self) -> Node:
        degree: Node = _TWO
        if self.peek() == "[":
            degree = self._group("[")
        radicand = self._group("(") if self.peek() == "(" else self._argument()
        return Op("root", (radicand, degree))

    def _function(self, name: str) -> Node:
        """`name`, an optional power and base, and its argument: a group, or all that is
        juxtaposed up to the next function (`\\sin 2x \\cos x`)."""
        power = base = None
        for _ in range(2):
            if self.take("^"):
                power = self._exponent()
            elif name == "log" and self.take("_"):
                base = self._argument()
        node = self._nested(self._function_argument)
        if power == Op("neg", (_ONE,)) and f"arc{name}" in FUNCTIONS:
            return Op(f"arc{name}", (node,))
        applied = Op(name, (node,) if base is None else (node, base))
        if name == "sqrt":
            applied = Op("root", (node, _TWO))
        return applied if power is None else Op("pow", (applied, power))

    def _function_argument(self) -> Node:
        char = self.peek()
        if char in ("(", "{", "["):
            return self._group(char)
        if self._function_next():
            return self.power()
        factors = [self.power()]
        while self._juxtaposed() and not self._function_next():
            factors.append(self.power())
        return factors[0] if len(factors) == 1 else Op("*", tuple(factors))

    def _function_next(self) -> bool:
        match = _NEXT_NAME.match(self.text, self.at)
        return match is not None and match[1] in FUNCTIONS
