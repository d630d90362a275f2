"""Tokens of C++ source as clang-format leaves it, with brackets matched: binary operators stand between spaces, those of types, templates and
signs do not."""
import re
from bisect import bisect_right

TOKEN = re.compile(r"""
    (?P<space>\s+|//[^\n]*|/\*.*?\*/)
  | (?P<directive>(?<![^\n])[ \t]*\#(?:[^\n]*\\\n)*[^\n]*)
  | (?P<string>(?:u8|L)?"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')
  | (?P<number>\.?\d(?:[eEpP][+-]|['\w.])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign><<=|>>=|->\*|\.\.\.|::|->|\+\+|--|&&|\|\||<=|>=|==|!=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|<<|.)
""", re.S | re.X)
PAIRS = {")": "(", "]": "[", "}": "{"}
KEYWORDS = {"return", "case", "else", "throw", "goto", "new", "delete", "sizeof", "operator", "template", "typename", "const", "using"}
PRECEDENCE = {"*": 10, "/": 10, "%": 10, "+": 9, "-": 9, "<<": 8, ">>": 8, "<": 7, ">": 7, "<=": 7, ">=": 7, "==": 6, "!=": 6, "&": 5, "^": 4,
              "|": 3, "&&": 2, "||": 1}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}


class Token:
    __slots__ = ("kind", "text", "start", "end", "spaced", "spaced_after", "line", "match", "inside")

    def __init__(self, kind, text, start, spaced):
        self.kind, self.text, self.start, self.end, self.spaced = kind, text, start, start + len(text), spaced
        self.spaced_after, self.match, self.inside = False, None, None


class Source:
    """tokens[i].match: the other bracket; tokens[i].inside: the bracket that opens around i, or None."""

    def __init__(self, text):
        self.text, self.tokens = text, []
        self.lines = [0] + [m.end() for m in re.finditer("\n", text)]
        spaced = True
        for m in TOKEN.finditer(text):
            if m.lastgroup in ("space", "directive"):
                spaced = True
                if self.tokens:
                    self.tokens[-1].spaced_after = True
                continue
            token = Token(m.lastgroup, m.group(), m.start(), spaced)
            token.line = bisect_right(self.lines, m.start())
            self.tokens.append(token)
            spaced = False
        self.split_shifts()
        self.match_brackets()

    def line_text(self, line):
        end = self.lines[line] if line < len(self.lines) else len(self.text)
        return self.text[self.lines[line - 1]:end].strip()

    def split_shifts(self):
        """'>>' is lexed as two tokens; as an operator it stands between spaces."""
        out = []
        for token in self.tokens:
            if token.text == ">" and out and out[-1].text == ">" and out[-1].end == token.start and out[-1].spaced and token.spaced_after:
                out[-1].text, out[-1].end, out[-1].spaced_after = ">>", token.end, True
            else:
                out.append(token)
        self.tokens = out

    def opens_template(self, i):
        token, before = self.tokens[i], self.tokens[i - 1] if i else None
        return token.text == "<" and before is not None and (before.text == "template" or before.kind == "word" and not token.spaced)

    def match_brackets(self):
        stack = []
        for i, token in enumerate(self.tokens):
            if token.text in ")]}":
                while stack and self.tokens[stack[-1]].text == "<":
                    stack.pop()
                if stack:
                    self.join(stack.pop(), i)
            elif token.text == ">" and not (token.spaced and token.spaced_after) and stack and self.tokens[stack[-1]].text == "<":
                self.join(stack.pop(), i)
            token.inside = stack[-1] if stack else None
            if token.text in "([{" or self.opens_template(i):
                stack.append(i)

    def join(self, a, b):
        self.tokens[a].match, self.tokens[b].match = b, a

    def in_template(self, i):
        while i is not None:
            i = self.tokens[i].inside
            if i is not None and self.tokens[i].text == "<" and self.tokens[i].match is not None:
                return True
        return False

    def ends_operand(self, i):
        token = self.tokens[i]
        return (token.kind in ("number", "string") or token.kind == "word" and token.text not in KEYWORDS or token.text in (")", "]") or
                token.text in (">", "}") and token.match is not None)

    def is_binary(self, i):
        token = self.tokens[i]
        return (token.text in PRECEDENCE and token.spaced and token.spaced_after and token.match is None and i > 0 and self.ends_operand(i - 1))

    def splits(self, i, level):
        """Whether the token at i ends an operand of an operator of precedence `level`."""
        token = self.tokens[i]
        if token.text in (",", ";", "?", "return", "else", "case") or token.text in ASSIGNMENTS:
            return True
        if token.text == ":" or token.kind == "word" and token.text in ("throw", "co_return"):
            return True
        return self.is_binary(i) and PRECEDENCE[token.text] < level

    def left(self, i, level):
        """First token of the left operand of the operator at i."""
        at = i - 1
        while True:
            if self.tokens[at].match is not None and self.tokens[at].match < at:
                at = self.tokens[at].match
            before = at - 1
            if before < 0 or self.splits(before, level) or self.opens(before):
                return at
            token = self.tokens[before]
            if token.text == "}" and token.line != self.tokens[at].line:
                return at
            if token.text == ")" and self.is_header(self.tokens[token.match]) and self.tokens[at].kind == "word":
                return at
            at = before

    def opens(self, i):
        token = self.tokens[i]
        return token.text in "([{" or token.text == "<" and token.match is not None

    def is_header(self, token):
        """Of 'if (', 'for (', 'while ('."""
        i = self.index(token)
        word = self.tokens[i - 1].text if i else ""
        return word in ("if", "for", "while", "switch") or word == "constexpr" and self.tokens[i - 2].text == "if"

    def index(self, token):
        low, high = 0, len(self.tokens)
        while low < high:
            middle = (low + high) // 2
            if self.tokens[middle].start < token.start:
                low = middle + 1
            else:
                high = middle
        return low

    def right(self, i, level):
        """Last token of the right operand of the operator at i."""
        at = i + 1
        while True:
            if self.tokens[at].match is not None and self.tokens[at].match > at:
                at = self.tokens[at].match
            after = at + 1
            if after >= len(self.tokens):
                return at
            token = self.tokens[after]
            if token.text in ")]}" or token.text == ">" and token.match is not None and token.match < at:
                return at
            if self.splits(after, level) or self.is_binary(after) and PRECEDENCE[token.text] == level:
                return at
            at = after

    def chain_end(self, i):
        """Last token of the postfix expression that begins at i, or None."""
        token = self.tokens[i]
        if token.kind == "number":
            return i
        if token.text == "(":
            at = token.match
        elif token.kind == "word" and token.text not in KEYWORDS:
            at = i
        else:
            return None
        while at + 1 < len(self.tokens):
            after = self.tokens[at + 1]
            if (after.text in "([" or after.text == "<") and after.match is not None and after.match > at and not after.spaced:
                at = after.match
            elif after.text in (".", "->", "::") and self.tokens[at + 2].kind == "word":
                at += 2
                if self.tokens[at].text == "template":
                    at += 1
            else:
                return at
        return at

    def argument(self, i):
        """(first, last) of the argument that begins at i: up to the comma or bracket."""
        at = i
        while True:
            if self.tokens[at].match is not None and self.tokens[at].match > at:
                at = self.tokens[at].match
            if at + 1 >= len(self.tokens) or self.tokens[at + 1].text in (",", ")", "]", "}", ";"):
                return i, at
            at += 1
