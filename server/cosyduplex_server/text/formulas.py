"""Formulas in LaTeX, as a teacher reads them from the board; what is too involved is called a formula.

Delimiters are $…$, $$…$$, \\(…\\) and \\[…\\]. A dollar sign is more often money: it opens a formula only
where no letter or digit touches it from outside and nothing in between reads as prose (two words of two
letters, a Chinese character, a price followed by a word). Look-ahead: to the closing delimiter, 200
characters for the forms within a line and 400 for displays, or to the first sign of prose.
"""

import re
from dataclasses import dataclass

from cosyduplex_server.text.runs import Language, is_spaced_word_char

_INLINE_CHARS = 200
_DISPLAY_CHARS = 400
_MAX_SPOKEN_TOKENS = 60
_MAX_DEPTH = 4

_CLOSERS = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_WORDS_IN_TEX = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mbox|operatorname)\*?\{[^{}]*\}?|\\[A-Za-z]+"
)
_CJK_OR_PROSE = re.compile(
    r"[A-Za-z]{2,}[ ,]+[A-Za-z]{2}|[a-z]\. [A-Z]|[\u3001-\u3003\u4e00-\u9fff\uff0c\uff1a\uff1b\uff1f]"
)
_PRICE = re.compile(r"\d[\d,.]*(?:[A-Za-z]{0,2} [A-Za-z]{2}|[,.;:!?)]\s|[–—~/ -]*\$)")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula in the text.

    Attributes:
        tex: What stands between the delimiters; None when it is too long to wait for its end.
        end: Where it ends with its closing delimiter; without one, the opening delimiter ends.
        closer: The closing delimiter.
    """

    tex: str | None
    end: int
    closer: str


def find_formula(text: str, at: int, opener: str, *, final: bool) -> Formula | bool | None:
    """The formula that `opener` opens at `at`; False when it opens none, None when that is not certain."""
    closer = _CLOSERS[opener]
    display = opener in ("$$", "\\[")
    start = at + len(opener)
    limit = start + (_DISPLAY_CHARS if display else _INLINE_CHARS)
    close = text.find(closer, start, limit)
    body = text[start : close if close >= 0 else limit]
    if opener in body and opener != "$":
        return False
    if _is_prose(body, opener) or (_BLANK_LINE.search(body) if display else "\n" in body):
        return False
    if close < 0:
        if len(text) < limit and not final:
            return None
        return Formula(None, start, closer) if display and not final else False
    end = close + len(closer)
    if opener == "$":
        if body[:1].isspace() or body[-1:].isspace() or not body:
            return False
        if end == len(text) and not final:
            return None
        if is_spaced_word_char(text[end : end + 1]):
            return False
    return Formula(body, end, closer)


def _is_prose(body: str, opener: str) -> bool:
    # Every sign is one that no further character can take back.
    if opener == "$" and (body[:1].isspace() or _PRICE.match(body)):
        return True
    return _CJK_OR_PROSE.search(_WORDS_IN_TEX.sub(" ", body)) is not None


def say_formula(tex: str | None, language: Language) -> str:
    """The words for a formula: "x squared plus 1"; "formula" for one that no words are easy to follow for."""
    words = None
    if tex is not None:
        try:
            words = _FormulaReader(tex, language).read()
        except _TooInvolved:
            words = None
    return words or ("formula" if language == "en" else "公式")


class _TooInvolved(Exception):
    """No words for it, or too many."""


_Named = dict[str, tuple[str, str]]
_GREEK_CHINESE = (
    "alpha 阿尔法 beta 贝塔 gamma 伽马 delta 德尔塔 epsilon 艾普西龙 zeta 泽塔 eta 伊塔 theta 西塔 iota 约塔 "
    "kappa 卡帕 lambda 兰姆达 mu 缪 nu 纽 xi 克西 pi 派 rho 柔 sigma 西格马 tau 陶 upsilon 宇普西龙 phi 斐 "
    "chi 希 psi 普西 omega 欧米伽"
).split()
_GREEK = dict(zip(_GREEK_CHINESE[::2], _GREEK_CHINESE[1::2], strict=True))
_SYMBOLS: _Named = {
    "+": ("plus", "加"),
    "-": ("minus", "减"),
    "−": ("minus", "减"),
    "*": ("times", "乘"),
    "/": ("over", "除以"),
    "=": ("equals", "等于"),
    "<": ("is less than", "小于"),
    ">": ("is greater than", "大于"),
    "\\times": ("times", "乘"),
    "\\cdot": ("times", "乘"),
    "\\ast": ("times", "乘"),
    "\\div": ("divided by", "除以"),
    "\\pm": ("plus or minus", "正负"),
    "\\mp": ("minus or plus", "负正"),
    "\\neq": ("is not equal to", "不等于"),
    "\\ne": ("is not equal to", "不等于"),
    "\\leq": ("is at most", "小于等于"),
    "\\le": ("is at most", "小于等于"),
    "\\geq": ("is at least", "大于等于"),
    "\\ge": ("is at least", "大于等于"),
    "\\ll": ("is much less than", "远小于"),
    "\\gg": ("is much greater than", "远大于"),
    "\\lt": ("is less than", "小于"),
    "\\gt": ("is greater than", "大于"),
    "\\approx": ("is about", "约等于"),
    "\\sim": ("is about", "约"),
    "\\equiv": ("is equivalent to", "恒等于"),
    "\\propto": ("is proportional to", "正比于"),
    "\\infty": ("infinity", "无穷大"),
    "\\to": ("to", "趋向"),
    "\\rightarrow": ("to", "趋向"),
    "\\longrightarrow": ("to", "趋向"),
    "\\Rightarrow": ("implies", "推出"),
    "\\implies": ("implies", "推出"),
    "\\iff": ("if and only if", "等价于"),
    "\\Leftrightarrow": ("if and only if", "等价于"),
    "\\in": ("in", "属于"),
    "\\notin": ("not in", "不属于"),
    "\\subset": ("is a subset of", "包含于"),
    "\\subseteq": ("is a subset of", "包含于"),
    "\\cup": ("union", "并"),
    "\\cap": ("intersection", "交"),
    "\\emptyset": ("the empty set", "空集"),
    "\\forall": ("for all", "对任意"),
    "\\exists": ("there is", "存在"),
    "\\land": ("and", "且"),
    "\\lor": ("or", "或"),
    "\\neg": ("not", "非"),
    "\\partial": ("partial", "偏"),
    "\\nabla": ("nabla", "纳布拉"),
    "\\sum": ("the sum", "求和"),
    "\\prod": ("the product", "求积"),
    "\\int": ("the integral", "积分"),
    "\\lim": ("the limit", "极限"),
    "\\sin": ("sine", "正弦"),
    "\\cos": ("cosine", "余弦"),
    "\\tan": ("tangent", "正切"),
    "\\cot": ("cotangent", "余切"),
    "\\arcsin": ("arc sine", "反正弦"),
    "\\arccos": ("arc cosine", "反余弦"),
    "\\arctan": ("arc tangent", "反正切"),
    "\\log": ("log", "log"),
    "\\ln": ("natural log", "自然对数"),
    "\\lg": ("log", "log"),
    "\\exp": ("e to the power of", "e的次方"),
    "\\max": ("max", "最大值"),
    "\\min": ("min", "最小值"),
    "\\gcd": ("g c d", "最大公约数"),
    "\\det": ("determinant", "行列式"),
    "\\mod": ("mod", "模"),
    "\\bmod": ("mod", "模"),
    "\\ldots": ("and so on", "等等"),
    "\\cdots": ("and so on", "等等"),
    "\\dots": ("and so on", "等等"),
    "\\circ": ("circle", "圈"),
    "\\degree": ("degrees", "度"),
    "\\%": ("percent", "百分号"),
    "\\ell": ("l", "l"),
    "\\hbar": ("h bar", "h 拔"),
    "!": ("factorial", "阶乘"),
    "'": ("prime", "撇"),
    "\\prime": ("prime", "撇"),
    "\\angle": ("angle", "角"),
    "\\perp": ("is perpendicular to", "垂直于"),
    "\\parallel": ("is parallel to", "平行于"),
    "\\mid": ("given", "给定"),
    "\\therefore": ("therefore", "所以"),
    "\\because": ("because", "因为"),
    **{f"\\{name}": (name, chinese) for name, chinese in _GREEK.items()},
    **{f"\\{name.capitalize()}": (name, chinese) for name, chinese in _GREEK.items()},
    "\\varepsilon": ("epsilon", _GREEK["epsilon"]),
    "\\varphi": ("phi", _GREEK["phi"]),
    "\\vartheta": ("theta", _GREEK["theta"]),
}
_BIG = frozenset(("\\sum", "\\prod", "\\int"))
_BELOW = frozenset(("\\lim", "\\max", "\\min"))
_BARS = frozenset(("|", "\\vert", "\\lvert", "\\rvert"))
_ACCENTS: _Named = {
    "\\hat": ("hat", "帽"),
    "\\bar": ("bar", "拔"),
    "\\overline": ("bar", "拔"),
    "\\tilde": ("tilde", "波浪"),
    "\\vec": ("vector", "向量"),
    "\\dot": ("dot", "点"),
    "\\ddot": ("double dot", "两点"),
}
_TEXT = frozenset("\\text \\textbf \\textit \\textrm \\mbox \\operatorname".split())
_FONTS = frozenset(
    "\\mathrm \\mathbf \\mathbb \\mathcal \\mathit \\mathsf \\mathfrak \\boldsymbol \\bm \\boxed "
    "\\displaystyle".split()
)
_SPACES = frozenset(
    "\\left \\right \\big \\Big \\bigl \\bigr \\Bigl \\Bigr \\quad \\qquad \\limits \\nolimits "
    "\\, \\; \\: \\! \\  [ ] \\{ \\} \\lfloor \\rfloor \\lceil \\rceil \\langle \\rangle \\| ~ .".split(" ")
)
_PAUSES = frozenset(",;:")
_CLOSING_OF = {"{": "}", "(": ")"}
_TOKEN = re.compile(
    r"\\[A-Za-z]+\*?|\\.|\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.\d+)?|[A-Za-z]{3,}|[^\s]", re.DOTALL
)


_SPACES_RUN = re.compile(" +")
_SPACE_BEFORE_PAUSE = re.compile(" +(?=[,，])")
_SPACE_BESIDE_HAN = re.compile(r"(?<=[^\x00-\x7f]) | (?=[^\x00-\x7f])")
_OPEN_BRACE = re.compile(r"(?<!\\)\{")


class _FormulaReader:
    """Recursive descent over the tokens of a formula; each method returns words.

    Raises:
        _TooInvolved: A command or character without words, braces without partner, too deep, too long.
    """

    def __init__(self, tex: str, language: Language) -> None:
        self._tex = tex
        self._tokens = _TOKEN.findall(tex)
        self._at = 0
        self._depth = 0
        self._chinese = language == "zh"

    def read(self) -> str:
        if len(self._tokens) > _MAX_SPOKEN_TOKENS:
            raise _TooInvolved
        words = self._row(until="")
        return self._tidy(" ".join(words))

    def _tidy(self, words: str) -> str:
        words = _SPACE_BEFORE_PAUSE.sub("", _SPACES_RUN.sub(" ", words)).strip(" ,，")
        if not self._chinese:
            return words
        return _SPACE_BESIDE_HAN.sub("", words)

    def _say(self, both: tuple[str, str]) -> str:
        return both[self._chinese]

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _row(self, until: str) -> list[str]:
        """Reads to the token `until` and past it."""
        words: list[str] = []
        while (token := self._peek()) != until:
            if not token:
                raise _TooInvolved
            words += self._term(leads=not words)
        self._at += 1
        return words

    def _term(self, *, leads: bool) -> list[str]:
        """An atom with its indices, powers and accents."""
        first = self._at
        token = self._peek()
        base = self._atom(leads=leads)
        if token in _BIG:
            return self._over_bounds(base)
        if token in _BELOW and self._peek() == "_":
            return self._under(token, base)
        if token == "\\log" and self._peek() == "_":
            self._at += 1
            below = self._argument()
            return ["以", *below, "为底的", *base] if self._chinese else [*base, "base", *below, "of"]
        several = token in "({" and self._at - first > 3
        while (sign := self._peek()) and sign in "_^'!":
            self._at += 1
            if sign == "_":
                base = self._indexed(base)
            elif sign == "^":
                base = self._power(base, several)
            else:
                base.append(self._say(_SYMBOLS[sign]))
        is_function = (len(token) == 1 and token.isalpha()) or (token in _SYMBOLS and token[1:].isalpha())
        if is_function and self._peek() == "(" and not self._chinese and token not in ("\\to", "\\in"):
            base.append("of")
        return base

    def _atom(self, *, leads: bool) -> list[str]:
        token = self._next()
        if token in _CLOSING_OF:
            return self._group(_CLOSING_OF[token])
        if token in _BARS:
            return self._bar(leads=leads)
        if token == "\\frac" or token in ("\\dfrac", "\\tfrac"):
            return self._fraction()
        if token == "\\sqrt":
            return self._root()
        if token in _TEXT:
            return [self._raw_group()]
        if token in _FONTS:
            return []
        if token in _ACCENTS:
            return [*self._argument(), self._say(_ACCENTS[token])]
        if token in ("-", "−") and leads:
            return ["负" if self._chinese else "minus"]
        if token in _SYMBOLS:
            return [self._say(_SYMBOLS[token])]
        if token in _SPACES:
            return []
        if token in _PAUSES:
            return ["，" if self._chinese else ","]
        if token[0].isalnum():
            return [token]
        raise _TooInvolved

    def _group(self, closing: str) -> list[str]:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _TooInvolved
        words = self._row(closing)
        self._depth -= 1
        return words

    def _bar(self, *, leads: bool) -> list[str]:
        """|x|, P(A|B) or {x | x > 0}: a bar opens where an operand may stand."""
        before = self._tokens[self._at - 2] if self._at > 1 else ""
        if not leads and before not in _SYMBOLS and before not in _SPACES:
            return (
                [("given", "给定")[self._chinese]] if self._depth else [("such that", "满足")[self._chinese]]
            )
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _TooInvolved
        words: list[str] = []
        while self._peek() not in _BARS:
            if not self._peek():
                raise _TooInvolved
            words += self._term(leads=not words)
        self._at += 1
        self._depth -= 1
        return [*words, "的绝对值"] if self._chinese else ["the absolute value of", *words]

    def _argument(self) -> list[str]:
        if not self._peek() or self._peek() == "}":
            raise _TooInvolved
        return self._atom(leads=True)

    def _raw_group(self) -> str:
        """The text of \\text{…}: its words, in which spaces count, are those between the same two braces."""
        if self._next() != "{":
            raise _TooInvolved
        words: list[str] = []
        while (token := self._next()) != "}":
            if not token or token in "{\\":
                raise _TooInvolved
            words.append(token)
        number = sum(token == "{" for token in self._tokens[: self._at])
        opened = [brace.end() for brace in _OPEN_BRACE.finditer(self._tex)][number - 1]
        return self._tex[opened : self._tex.index("}", opened)].strip()

    def _fraction(self) -> list[str]:
        above, below = self._argument(), self._argument()
        if self._chinese:
            return [*below, "分之", *above]
        return [*above, "," if len(above) > 1 else "", "over", *below]

    def _root(self) -> list[str]:
        degree: list[str] = []
        if self._peek() == "[":
            self._at += 1
            degree = self._row(until="]")
        root = self._argument()
        if self._chinese:
            return [*root, "的", *degree, "次方根"] if degree else ["根号", *root]
        names = {"": "the square root of", "3": "the cube root of"}
        name = names.get(" ".join(degree)) or f"the root of degree {' '.join(degree)} of"
        return [name, *root]

    def _indexed(self, base: list[str]) -> list[str]:
        index = self._argument()
        if self._chinese:
            return [*base, *index] if len(index) == 1 else [*base, "下标", *index]
        return [*base, "sub", *index]

    def _power(self, base: list[str], several: bool) -> list[str]:
        exponent = " ".join(self._argument())
        if exponent in ("circle", "圈"):
            return [*base, self._say(_SYMBOLS["\\degree"])]
        if exponent in ("prime", "撇"):
            return [*base, exponent]
        if self._chinese:
            names = {"2": "的平方", "3": "的立方"}
            return [*base, "，整体" if several else "", names.get(exponent) or f"的{exponent}次方"]
        names = {"2": "squared", "3": "cubed", "T": "transposed"}
        return [*base, ", all" if several else "", names.get(exponent) or f"to the power of {exponent}"]

    def _over_bounds(self, name: list[str]) -> list[str]:
        below: list[str] = []
        above: list[str] = []
        while (sign := self._peek()) and sign in "_^":
            self._at += 1
            if sign == "_":
                below = self._argument()
            else:
                above = self._argument()
        if self._chinese:
            span = ["从", *below, "到", *above] if below and above else below or above
            return [*span, *name, "，"]
        if below and above:
            return [*name, "from", *below, "to", *above, "of"]
        return [*name, "over", *(below or above), "of"] if below or above else [*name, "of"]

    def _under(self, token: str, name: list[str]) -> list[str]:
        self._at += 1
        below = self._argument()
        if self._chinese:
            return [*below, "时的" if token == "\\lim" else "上的", *name, "，"]
        if token == "\\lim":
            return [*name, "as", *("goes to" if word == "to" else word for word in below), "of"]
        return [*name, "over", *below, "of"]
