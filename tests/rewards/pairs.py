# ruff: noqa: RUF001 - characters that look alike are among the cases
r"""Pairs of gold answer and boxed answer by class, written for these tests.

`SAME[class]` and `DIFFERENT[class]` hold (gold, answer). A class is a way in which answers vary,
so that a change of the grader shows which one it moved.
"""

from __future__ import annotations

Pairs = list[tuple[str, str]]

SAME: dict[str, Pairs] = {
    "integers": [
        ("42", "42"), ("42", "+42"), ("42", " 42. "), ("42", "042"), ("-7", "−7"), ("-7", "-7.0"),
        ("0", "-0"), ("1234567", "1,234,567"), ("1234567", "1{,}234{,}567"),
        ("1234567", "1 234 567"), ("1234567", r"1\,234\,567"), ("10,\\!080", "10080"),
        ("42", "４２"), ("42", r"$42$"), ("42", r"\(42\)"), ("42", r"\mathbf{42}"),
        ("42", "**42**"),
        ("42", r"{42}"), ("1000", "10^3"), ("12", "3(4)"), ("7", "seven"), ("seven", "7"),
        ("42", "The answer is 42."), ("42", r"\text{Answer: } 42"), ("-3", "-(3)"),
    ],
    "decimals": [
        ("0.5", ".5"), ("0.5", "0.50"), ("2.0", "2"), ("0.125", "1/8"), ("3.21", "3.2100"),
        ("1234.5", "1,234.5"), (".0000672", r"6.72\times 10^{-5}"), ("-1.5", r"-\frac{3}{2}"),
        ("5.", "5"), (r"0.\overline{3}", r"\frac13"), (r"\frac{1}{6}", r"0.1\overline{6}"),
    ],
    "fractions": [
        (r"\frac{3}{4}", "3/4"), (r"\frac{3}{4}", r"\tfrac{3}{4}"), (r"\frac{3}{4}", r"\frac34"),
        (r"\frac{3}{4}", "0.75"), (r"\frac{3}{4}", "¾"), (r"\frac{3}{4}", r"\frac{6}{8}"),
        (r"-\frac{3}{4}", r"\frac{-3}{4}"), (r"-\frac{3}{4}", r"\frac{3}{-4}"),
        (r"\frac{5}{2}", r"2\frac{1}{2}"), ("5/2", "2 1/2"), ("5/2", "2½"), (r"\frac 59", "5/9"),
        (r"\frac9{19}", r"\frac{9}{19}"), ("-5/2", r"-2\frac12"), ("6/3", "2"),
        (r"\frac{\frac12}{3}", r"\frac16"), ("7/3", r"{7}/{3}"), (r"137 \frac{1}{2}", "137.5"),
    ],
    "percent": [
        ("50%", "50"), ("50", r"50\%"), ("50%", r"50\%"), ("50%", "50 percent"),
        ("12.5%", r"12.5\,\%"), ("50%", "50 per cent"), (r"20\%", r"$20\%$"), ("50%", "1/2"),
    ],
    "degrees": [
        ("60", r"60^\circ"), ("60°", "60"), ("60^\\circ", r"60^{\circ}"), ("60", "60 degrees"),
        ("60", r"60\text{ degrees}"), (r"90^\circ", r"90\degree"), (r"90^\circ", "90º"),
        (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"), (r"\frac{\pi}{3}", r"60^\circ"),
        ("145", r"\angle ABC = 145^\circ"), ("20", "20°C"), ("20°C", r"20^\circ\text{C}"),
        ("68 degrees Fahrenheit", "68°F"),
    ],
    "units": [
        ("5 cm", "5"), ("5", "5 cm"), ("5", r"5\,\text{cm}"), ("5", r"5\mathrm{~cm}"),
        ("5 cm", "5cm"), ("5 cm", "5 centimeters"), ("3 hours", "3 hrs"), ("3 hours", "3h"),
        ("3 hours", "180 minutes"), ("1 km", "1000 m"), ("12", r"12\text{ cm}^2"),
        ("12 cm^2", "12 square centimeters"), ("12", "12 sq. ft"), ("864 \\mbox{ inches}^2", "864"),
        ("60 mph", "60"), ("60 miles per hour", "60 miles/hour"), ("5", "5 apples"),
        ("5 apples", "5 apple"), ("9.8", r"9.8\ \text{m/s}^2"),
        ("9.8 m/s^2", r"9.8\,\frac{m}{s^2}"),
        ("100", r"\$100"), ("$100", "100"), (r"\$36", "36 dollars"), ("18", r"\$18.00"),
        (r"\$32,\!348", r"\$32{,}348"), ("5", "5€"), ("5.4 \\text{ cents}", "5.4"),
        ("5 million", "5,000,000"), ("5000000", r"5\text{ million}"), ("24", "2 dozen"),
        ("3 billion dollars", r"\$3\times 10^9"), ("1/2", r"\frac12 \text{ cup}"),
    ],
    "words": [
        ("Yes", "yes"), ("yes", "Yes."), ("no", r"\text{No}"), ("yes", "Yes, it is red"),
        ("New York", r"\text{New York}"), ("New York", "new  york"), ("circle", "the circle"),
        ("dark blue", "dark-blue"), ("dark blue", "Dark Blue"), ("Evelyn", r"\text{Evelyn}"),
        (r"\text{east}", "East"), ("是", "是"), ("café", "café"), ("red", '"red"'),
        (r"\text{even}", r"\textbf{even}"), ("two", "2"), (r"\emptyset", "no solution"),
        ("red, blue", "blue, red"), ("red and blue", "blue and red"), ("Bob", r"\mathrm{Bob}"),
        ("3:30 PM", "3:30 p.m."), ("Room 12", "room 12"),
    ],
    "choices": [
        ("A", "a"), ("A", "(A)"), ("A", "A."), ("A", "A)"), ("A", r"\text{(A)}"), ("A", "Option A"),
        ("A", "A: 5"), ("A", "(A) the red one"), ("A", r"\textbf{(A) } 12"), ("C", "choice C"),
        (r"\text{(C)}", "C"), ("(C)", r"\text{C}"), ("D", "[D]"), ("B", r"\mathbf{B}"),
        ("B", "(B) \\frac{1}{2}"), ("C", "C. x+1"), ("E", "e"), ("b", "B"), ("A,C", "A, C"),
        ("A, C", "C, A"),
    ],
    "lists": [
        ("1, 2", "2, 1"), ("1,2", r"\{1,2\}"), ("1, -2", "x=1 or x=-2"), ("1,-2", "1 and -2"),
        (r"\{1,2,3\}", r"\{3, 2, 1\}"), ("1/2, 1", "1, 0.5"), ("3, 5, 7", "3; 5; 7"),
        ("1, 2, 3", "1, 2, and 3"), (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
        (r"\{1\pm\sqrt{5},-2\}", r"-2, 1+\sqrt5, 1-\sqrt5"), ("-2,2", r"\pm 2"), (r"\pm 2", "x=±2"),
        ("1, 2", r"x_1=1,\; x_2=2"), ("1000, 2000", "1,000, 2,000"),
        (r"(1,2), (3,4)", "(3,4),(1,2)"),
        ("5", r"\{5\}"), ("1, 2", r"x \in \{1, 2\}"), ("Q(x)=-2, Q(x)=2x-2", "Q(x)=2x-2, Q(x)=-2"),
    ],
    "tuples": [
        ("(1,2)", "(1, 2)"), ("(1,2)", r"\left(1,2\right)"), ("(1,2)", "(x,y)=(1,2)"),
        (r"(\frac12, 3)", "(0.5, 3)"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        ("(6,31,-1)", r"\big(6, 31, -1\big)"), ("(1,2)", "P = (1,2)"),
    ],
    "intervals": [
        ("[0,1)", r"\left[0, 1\right)"), (r"(2,\infty)", "x > 2"), (r"(2,\infty)", "2<x"),
        ("[0,1)", r"0 \le x < 1"), (r"(-\infty,3]", r"x\leq 3"), (r"x\ge 3", r"[3, +\infty)"),
        (r"(-\infty,0)\cup(1,\infty)", r"x<0 \text{ or } x>1"), (r"x \in [-2,7]", "[-2,7]"),
        (r"x \in [-2,7]", r"-2 \leq x \leq 7"), ("0<c<1", "(0,1)"), ("0<c<1", "1>c>0"),
        (r"(-\infty, -3) \cup (-3, \infty)", r"x \neq -3"), (r"(0,9) \cup (9,36)", "(9,36)∪(0,9)"),
        (r"(-\infty,0)\cup\{\frac{1}{2}\}", r"\{1/2\}\cup(-\infty,0)"),
        (r"(-\infty,\infty)", r"\mathbb{R}"), (r"n \ge 2", "n >= 2"),
    ],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"),
        (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}",
         r"\begin{pmatrix} -\frac{1}{3} \\ \frac{2}{3} \end{pmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"A=\begin{pmatrix}1&2\\[2pt]3&4\end{pmatrix}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\left(\begin{array}{c}1\\2\end{array}\right)"),
    ],
    "irrational": [
        (r"\sqrt{8}", r"2\sqrt{2}"), (r"\sqrt8", "2√2"), (r"\frac{1}{\sqrt2}", r"\frac{\sqrt2}{2}"),
        (r"\sqrt{4}", "2"), (r"11\sqrt2", r"\sqrt{242}"), (r"\sqrt[3]{27}", "3"),
        (r"2^{1/2}", r"\sqrt{2}"), (r"7\pi", r"\pi\cdot 7"), (r"2\pi", "2pi"), ("2π", r"2\pi"),
        (r"18+2\pi", r"2\pi+18"), (r"\frac{3\sqrt{3}}{4}", r"\frac{3}{4}\sqrt{3}"),
        ("sqrt(2)", r"\sqrt{2}"), (r"-\sqrt[3]{8}", r"\sqrt[3]{-8}"), (r"\sqrt{51}", "√51"),
        (r"\frac{20000}{\pi}", r"20000\pi^{-1}"), ("6-5i", "-5i+6"), ("e^2", r"\mathrm{e}^{2}"),
        (r"\log_2 8", "3"), (r"\sin 30^\circ", r"\frac12"), (r"3\ln 2", r"\ln 8"),
        (r"\frac{1}{1+i}", r"\frac{1-i}{2}"),
    ],
    "algebra": [
        ("2x+3", "3+2x"), ("2x+3", "2 x + 3"), ("2x+3", r"2\cdot x+3"), ("p - q", "-q+p"),
        ("(a+5)(b+2)", "(b+2)(a+5)"), ("(x+1)^2", "x^2+2x+1"), ("6r^2-4r-24", "2(3r^2-2r-12)"),
        (r"\frac{11+9a}{20}", r"\frac{9a}{20}+\frac{11}{20}"), ("3R^2", r"3R^{2}"), ("x²", "x^2"),
        (r"\frac{x}{y}", "x/y"), (r"\sqrt{\frac{y}{z}}", r"\frac{\sqrt{y}}{\sqrt{z}}"),
        (r"\cot x", r"\frac{\cos x}{\sin x}"), (r"2^{u-2}", r"\frac{2^u}{4}"), ("x**2", "x^2"),
        (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"), ("(n-2)!", r"\frac{n!}{n(n-1)}"),
        ("a_1+a_2", "a_2+a_{1}"),
        (r"\sin^2 x", r"1-\cos^2 x"), (r"|x-1|", "|1-x|"), (r"2\theta", "2θ"), ("xy", r"x \cdot y"),
        (r"\lfloor\sqrt{n-1}\rfloor", r"\left\lfloor \sqrt{n - 1} \right\rfloor"),
    ],
    "powers": [
        ("2^{10}", "1024"), ("1024", "2^10"), ("5!", "120"), (r"\binom{5}{2}", "10"),
        (r"2^{16}+1", "65537"), ("3e8", r"3\times 10^8"), ("300000000", r"3 \cdot 10^{8}"),
        ("3e8", "3E8"), ("3×10⁸", "3e8"), (r"6.02\times10^{23}", "6.02e23"), ("1e-3", "0.001"),
        ("3 x 10^8", "3e8"), (r"4\cdot3^{2023}", r"3^{2023}\cdot 4"), ("10^{-2}", "0.01"),
    ],
    "equations": [
        ("x=5", "5"), ("5", r"x \approx 5"), ("5", r"5 \\"), ("e", r"\mathrm e"), ("5", "x=5"),
        ("x=5", "5=x"), ("x = 5", "x=5.0"), ("5", r"\text{Area} = 5"),
        ("y=2x+1", "y = 1 + 2x"), ("y = 2x + 3", "2x - y + 3 = 0"), ("x=5", "2x=10"),
        ("5x - 7y + 11z + 4 = 0", "-5x + 7y - 11z - 4 = 0"), ("x+1", "f(x)=x+1"), ("7", "m+n=7"),
        ("1024", "2^{10} = 1024"), ("5", "x = 10/2 = 5"), (r"\frac13", r"\frac13 \approx 0.333"),
        (r"\sqrt2", r"\sqrt{2} \approx 1.414"), ("0.4", r"P(A) = \frac{2}{5}"), ("5", r"|AB| = 5"),
        ("f(x)=x+1", "f(x) = 1+x"), ("25", "AB^2 = 25"), (r"15^\circ", r"\theta = 15^\circ"),
        ("234", "100m+n = 234"), ("52_8", "52_{8}"), ("4210_{5}", r"4210_5"),
    ],
}  # fmt: skip

DIFFERENT: dict[str, Pairs] = {
    "integers": [
        ("42", "43"), ("42", "-42"), ("42", "4 2"), ("42", "421"), ("42", "24"), ("1000", "1,00"),
        ("10", "1.0"), ("123456", "123,45,6"), ("42", ""), ("42", "forty"), ("5", "5 or 6"),
        ("5", "5, 6"), ("5", "4 < 5"), ("6", "5 = 6"), ("0", "x"), ("12", "1 2"),
    ],
    "decimals": [
        ("0.5", "0.05"), ("0.3333", r"\frac13"), ("3.14", r"\pi"), ("4.75", "475"),
        ("1.5", "1.50001"), ("1.25", "1,25"),
    ],
    "fractions": [
        (r"\frac{1}{2}", "2"), (r"\frac{1}{2}", r"-\frac{1}{2}"), (r"\frac{1}{2}", r"\frac{2}{1}"),
        (r"\frac{7}{3}", r"\frac{73}{3}"), (r"\frac{1}{3}", "0.33"), ("1/2", "1/0"), ("0", "0/0"),
        ("5/2", "21/2"), (r"2\frac13", r"\frac{2}{3}"),
    ],
    "percent": [("50%", "5%"), ("50%", "500"), ("0.5", "5%"), ("25%", "0.5")],
    "degrees": [("60", "6°"), ("60°", r"\frac{\pi}{4}"), ("20°C", "20°F"), ("60°", "60 radians")],
    "units": [
        ("5 m", "5 cm"), ("3 hours", "3 minutes"), ("5 cm", "5 cm^2"), ("5 apples", "5 oranges"),
        ("$5", "€5"), ("5", "6 cm"), ("5 million", "5"), ("5", "5 million"), ("5 kg", "5 km"),
        ("5", "5x"), ("3n", "3"), ("2k", "2"), ("5", "5 not"), ("5 cm", "cm"), ("5 m/s", "5 m"),
        ("5 mg", "5 gm"), ("5 to 6", "5"), ("12 Room", "Room 12"), ("50 cents", r"\$50"),
    ],
    "words": [
        ("foot", "mile"), ("yes", "no"), ("no", "on"), ("ab", "ba"), ("circle", "square"),
        ("dark blue", "blue"), ("blue", "light blue"), ("red", "not red"), ("none", "one"),
        ("yes", "yes and no"), ("yes", "Yes, no"), ("是", "否"), ("None", "no"), ("tea", "eat"),
        ("east", "west"), ("red, blue", "red"), ("Bob", "Rob"), ("even", "5"), ("5", "five six"),
        ("circle", "circle or square"), ("True", "False"), ("Room 12", "Room 13"),
        ("3:30 PM", "3:30 am"), ("a b", "b a"),
    ],
    "choices": [
        ("A", "B"), ("A", "(B)"), ("A", "A, B"), ("A", "A or B"), ("A", "(A) and (B)"), ("A", "AB"),
        ("A", "B. A"), ("A", "Apple"), ("A", "not A"), ("C", "A) C"), ("A", "5"),
        ("A", r"A \cup B"),
        ("A,C", "A"), ("A", "A/B"), ("B", "8"), ("A", "A: B"), ("A, C", "A, B"), ("D", "0"),
    ],
    "lists": [
        ("1, 2", "1"), ("1", "1, 2"), ("1, 2", "1, 3"), ("1, 2", "1, 2, 3"), ("1, 1", "1, 2"),
        (r"\pm 2", "2"), ("2", r"\pm 2"), ("1, 2", "12"), (r"\{1,2\}", "(1,2)"), ("1,2,3", "3"),
        (r"1 \pm \sqrt{19}", r"1 \pm \sqrt{17}"), ("(1,2), (3,4)", "(2,1), (3,4)"),
    ],
    "tuples": [
        ("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)"), ("(1,2)", "[1,2]"), ("(1,2)", "1"),
        ("(1,2)", "1,2"), ("(1,2)", "(1,-2)"), ("(-2,1)", "-2+1"), ("(1,234)", "1234"),
    ],
    "intervals": [
        ("[0,1)", "[0,1]"), ("[0,1)", "(0,1)"), (r"(2,\infty)", r"x \ge 2"), ("x>2", "x<2"),
        (r"(2,\infty)", "2"), ("x>2", "y>2"), ("x>2", "x=2"), (r"(-\infty,2)", r"(2,\infty)"),
        (r"(0,9) \cup (9,36)", "(0,36)"), ("0<c<1", "0<c<2"), (r"x \ne 3", "x=3"),
        (r"\mathbb{R}", r"\mathbb{Z}"), ("[-2,7]", "-2"), ("0<c<1", "0<c"),
    ],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\4&3\end{pmatrix}"),
        (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "1,2,3,4"),
        (r"\begin{pmatrix}1\end{pmatrix}", "2"),
    ],
    "irrational": [
        (r"\sqrt2", "1.414"), (r"\sqrt2", "2"), (r"\sqrt{2}", r"\sqrt[3]{2}"), (r"2\pi", r"\pi"),
        (r"\pi", "3.14159"), (r"2\sqrt3", r"3\sqrt2"), ("6-5i", "6+5i"), ("i", "1"), ("e", "2.718"),
        (r"\sqrt{10}", r"\sqrt10"), (r"\ln 2", r"\log_2 2"), (r"\frac{\pi}{3}", "60"),
    ],
    "algebra": [
        ("2x+3", "2x-3"), ("2x+3", "3x+2"), ("x", "X"), ("R^2", "r^2"), ("xy", "x+y"), ("|x|", "x"),
        ("x^2", "2x"), ("(x+1)^2", "x^2+1"), (r"\sin x", r"\cos x"), ("2^n", "n^2"), ("ab", "a"),
        ("a_1", "a_2"), (r"\frac{x}{y}", r"\frac{y}{x}"), ("2n+1", "2m+1"), ("x+1", "x+1.0000001"),
        (r"\lfloor x \rfloor", "x"), ("x", "x^1.0001"),
    ],
    "powers": [
        ("2^{10}", "20"), ("2^{10}", "1025"), ("5!", "5"), ("5!", "25"), ("3e8", "3e9"),
        ("10^{100}", "10^{101}"), ("2^{2024}+1", "2^{2024}"), ("2", "2^{10^{10}}"), ("100!", "99!"),
        (r"3^{2023}", r"3^{2024}"), ("0", "10^{-400}"),
    ],
    "equations": [
        ("x=5", "x=6"), ("5", r"x \approx 5.1"), ("x=5", "y=5"), ("5", "x+1=5"),
        ("y=2x+1", "y=2x-1"), ("x=5", "x"),
        ("f(x)=x+1", "g(x)=x+1"), ("7", "x=6=7"), ("5", "4=5"), (r"\frac13", r"2 \approx \frac13"),
        ("0", "5x - 7y + 4 = 0"), ("52_8", "42"), ("52_8", "52_9"), ("y=2x", "x=2y"),
        ("5", r"x \ne 5"),
        (r"\angle A = 5", r"\angle B = 5"), ("y=x", "y=x+y"), ("x=5", "0=0"), ("x=5", "1=1"),
    ],
}  # fmt: skip
