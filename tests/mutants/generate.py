"""Mutants of a source file: where each stands, what it changes, and a copy of the file that contains them all (mutant.h).

A mutant is named by its file, the text of its line, which place of that line is meant where the line has several, and what is changed. So an
edit elsewhere renames nothing; lines that stand twice in a file are told apart by a number.
"""
import collections
import re
import zlib

from lexer import ASSIGNMENTS, PRECEDENCE, Source

# Lines about what no test should see: who does the work (grids, blocks, teams), what is refused, and what it says.
SKIPPED_LINES = re.compile(
    r"constexpr|static_assert|__launch_bounds__|LaunchShape|launch\(|persistent_blocks|blocks_for|blocks_of|packs_fit|aligned_16|prefetch|"
    r"kTeamElements|omp_get|using |typedef |operator|note_bad_index|format_message|^name\(|multiprocessors|INSTANTIATE|__shared__|"
    r"LIBTRAIN_DYNAMIC_SHARED|shared_bytes|chunk_elements|taken|\bcheck_\w+\(")
# Calls whose arguments are conditions and words for a person, or types.
REFUSALS = ("LIBTRAIN_CHECK", "check_like", "check_is", "check_float", "check", "require", "InvalidArgument", "static_assert", "assert",
            "decltype", "offsetof", "sizeof", "alignof", "requires", "__attribute__", "defined")
OPERATORS = {"+": ("add", ["a - b", "a", "b"]), "-": ("subtract", ["a + b", "a"]),
             "*": ("multiply", ["a / b", "a", "b"]), "/": ("divide", ["a * b", "a"]),
             "<": ("less", ["a <= b"]), "<=": ("less_or_equal", ["a < b"]), ">": ("greater", ["a >= b"]), ">=": ("greater_or_equal", ["a > b"]),
             "==": ("equal", ["a != b"]), "!=": ("unequal", ["a == b"])}
ASSIGNS = {"=": ("assign", ["a += b"]), "+=": ("assign_sum", ["a = b", "a -= b"]), "*=": ("assign_product", ["a stays"])}
# first, last: tokens of the expression or statement; changes: what each of the site's mutants does; edits: the operator's token, or how else the
# source is rewritten; at: the token whose line names the site.
Site = collections.namedtuple("Site", "first last function changes edits at")
# number: as the environment names it; site: the number of its site, by which the program notes what is reached.
Mutant = collections.namedtuple("Mutant", "key number site path")


class Finder:
    def __init__(self, text):
        self.source, self.sites = Source(text), []
        self.tokens = self.source.tokens
        self.skipped = self.refusals()

    def refusals(self):
        """Tokens within calls that refuse, and whatever stands in a directive's reach."""
        out = set()
        for i, token in enumerate(self.tokens[:-1]):
            if token.text in REFUSALS and self.tokens[i + 1].text == "(" and self.tokens[i + 1].match:
                out.update(range(i, self.tokens[i + 1].match + 1))
            if token.text in ("throw", "template", "enum"):
                end = i
                while self.tokens[end].text not in (";", "{") and (token.text != "template" or end < (self.tokens[i + 1].match or i)):
                    end += 1
                out.update(range(i, end + 1))
        return out

    def open_to_mutation(self, i):
        line = self.source.line_text(self.tokens[i].line)
        if any("omp atomic" in self.source.line_text(n) for n in range(max(1, self.tokens[i].line - 3), self.tokens[i].line)):
            return False
        return i not in self.skipped and not SKIPPED_LINES.search(line) and not self.source.in_template(i) and self.in_function(i)

    def in_function(self, i):
        """Within braces that follow a parameter list or a statement: not in the list of a struct's members or of an enum."""
        at = self.tokens[i].inside
        while at is not None:
            token = self.tokens[at]
            if token.text == "{":
                before = self.tokens[at - 1]
                if before.text in (")", "else", "do") or before.text in ("const", "mutable", "noexcept", "try"):
                    return True
            at = token.inside
        return False

    def after_pragma(self, i, what):
        """Whether the statement of token i follows '#pragma omp …' with `what` in it."""
        line = self.source.line_text(self.tokens[i].line - 1) if self.tokens[i].line > 1 else ""
        return line.startswith("#pragma") and what in line

    def wrap(self, first, last, function, changes, at):
        self.sites.append(Site(first, last, function, changes, None, at))

    def header_of(self, i):
        """The word before the parenthesis around i: for, if, …"""
        inside = self.tokens[i].inside
        return self.tokens[inside - 1].text if inside and self.tokens[inside].text == "(" else ""

    def find(self):
        for i, token in enumerate(self.tokens):
            if not self.open_to_mutation(i):
                continue
            if self.source.is_binary(i) and token.text in OPERATORS:
                self.binary(i, token)
            elif token.text in ASSIGNS and token.spaced:
                self.assignment(i, token)
            elif token.text == "-" and not token.spaced_after and not self.source.ends_operand(i - 1):
                self.sign(i)
            elif token.kind == "number":
                self.number(i, token)
            elif token.text in ("true", "false") and self.tokens[i - 1].text in ("(", ",") and self.tokens[i + 1].text in (")", ","):
                self.wrap(i, i, "condition", ["not a"], i)
            elif token.kind == "word" and self.tokens[i + 1].text == "(" and not self.tokens[i + 1].spaced:
                self.named_call(i, token)
            elif token.text == "(" and self.tokens[i - 1].text == "if":
                self.condition(i)
            elif token.text == "?":
                first = self.source.left(i, 0.5)
                self.wrap(first, i - 1, "condition", ["branches exchanged"], i)
            if token.text in ("accumulate", "transpose_a", "transpose_b") and self.tokens[i + 1].text in (",", ")", "?"):
                self.flag(i)
            if self.begins_statement(i):
                self.statement(i)
        return self.sites

    def binary(self, i, token):
        level = PRECEDENCE[token.text]
        if self.header_of(i) == "for" and level == 7:
            last = self.source.right(i, level)
            if self.tokens[last + 1].text == ";" and token.text in ("<", "<="):
                self.wrap(i + 1, last, "bound", ["one more", "one less"], i)
            return
        first, last = self.source.left(i, level), self.source.right(i, level)
        if any(t.kind == "string" for t in self.tokens[first:last + 1]) or any(t.text == "{" for t in self.tokens[first:last + 1]):
            return
        self.sites.append(Site(first, last, *OPERATORS[token.text], i, i))

    def assignment(self, i, token):
        inside = self.tokens[i].inside
        if inside is None or self.tokens[inside].text != "{":
            return
        start, first = i, i - 1
        while not self.source.splits(first, 0) and not (self.source.opens(first) or self.tokens[first].text == "}"):
            if self.tokens[first].text in (")", "]") and self.tokens[first].match is not None:
                opened = self.tokens[first].match
                if self.tokens[first].text == ")" and self.source.is_header(self.tokens[opened]):
                    break
                first = opened
            first -= 1
        start = first + 1
        begin = start + 1 if self.tokens[start].text == "*" else start
        if start == i or self.source.chain_end(begin) != i - 1 or self.tokens[begin].kind == "number":
            return
        if self.tokens[first].text in ASSIGNMENTS or self.tokens[first].text == "," and not self.chained(first):
            return
        last = self.source.right(i, 0)
        while self.tokens[last + 1].text in ("?", ":"):
            last = self.source.right(last + 1, 0)
        if self.tokens[last + 1].text not in (";", ",") or self.tokens[i + 1].text == "{":
            return
        self.sites.append(Site(start, last, *ASSIGNS[token.text], i, i))

    def chained(self, comma):
        """Whether 'a = x, b = y' is one of assignments, not a declaration."""
        first = comma
        while self.tokens[first - 1].text not in (";", "{", "}"):
            first -= 1
            if self.tokens[first].match is not None and self.tokens[first].match < first:
                first = self.tokens[first].match
        end = self.source.chain_end(first + 1 if self.tokens[first].text == "*" else first)
        return end is not None and self.tokens[end + 1].text in ASSIGNMENTS

    def sign(self, i):
        last = self.source.chain_end(i + 1)
        if last is not None and self.tokens[i + 1].kind != "number":
            self.sites.append(Site(i, last, "negative", ["sign"], "sign", i))

    def number(self, i, token):
        before, after = self.tokens[i - 1], self.tokens[i + 1]
        if re.match(r"0[xXbB]|\d+u$|\d+u?ll", token.text) or self.tokens[token.inside].text in "[{" and before.text in ("{", "[", ","):
            return
        if self.header_of(i) == "for":
            if before.text == "=" and after.text == ";":
                self.wrap(i, i, "constant", ["one later"], i)
            return
        arithmetic = any(t.text in ("+", "-", "*", "/") for t in (before, after)) or re.search(r"[.e]", token.text)
        converted = before.text == "(" and after.text == ")" and self.tokens[i - 2].text in ("A", "T", "double", "float")
        if token.text != "0" and (arithmetic or converted) and not (before.text == "-" and not before.spaced_after):
            self.wrap(i, i, "constant", ["another"], i)

    def named_call(self, i, token):
        if token.text in ("min", "max") and self.tokens[i - 1].text == "::" and self.tokens[i - 2].text == "std" and self.tokens[i + 2].text != "{":
            close = self.tokens[i + 1].match
            _, end = self.source.argument(i + 2)
            if self.tokens[end + 1].text == "," and self.source.argument(end + 2)[1] == close - 1:
                self.sites.append(Site(i - 2, i, "smallest" if token.text == "min" else "largest", ["min and max exchanged"], "name", i))
        elif token.text not in ("if", "for", "while", "switch", "return", "A", "T"):
            self.exchange(i + 1)

    def exchange(self, opened):
        """The first two neighbouring arguments that are plain names or members."""
        at, close, plain = opened + 1, self.tokens[opened].match, None
        while close and at < close:
            first, last = self.source.argument(at)
            simple = all(t.kind == "word" or t.text in (".", "->") for t in self.tokens[first:last + 1]) and self.source.chain_end(first) == last
            simple = simple and self.tokens[first].text not in ("true", "false", "this")
            if simple and plain:
                self.sites.append(Site(plain[0], last, "argument", ["arguments exchanged"], (plain[1], first), first))
                return
            plain = (first, last) if simple else None
            at = last + 2

    def condition(self, opened):
        close = self.tokens[opened].match
        inner = self.tokens[opened + 1:close]
        if not any(t.text in ("=", ";") for t in inner):
            self.wrap(opened + 1, close - 1, "condition", ["not a"], opened)

    def flag(self, i):
        first = i
        while self.tokens[first - 1].text in (".", "->"):
            first -= 2
        if first > 0 and self.tokens[first - 1].text in ("(", ",", "=", "?") and self.source.chain_end(first) == i:
            self.wrap(first, i, "condition", ["not a"], i)

    def begins_statement(self, i):
        if i == 0 or self.tokens[i].kind != "word" and self.tokens[i].text != "*":
            return False
        before = self.tokens[i - 1]
        return before.text in (";", "{", "}") and (self.tokens[i].inside is None or self.tokens[self.tokens[i].inside].text == "{")

    def statement(self, i):
        """f(…); or x = …; left out."""
        begin = i + 1 if self.tokens[i].text == "*" else i
        end = self.source.chain_end(begin)
        if end is None or self.after_pragma(i, "omp") or self.tokens[i].text in ("__syncthreads", "LIBTRAIN_CHECK"):
            return
        if self.tokens[end + 1].text == ";" and self.tokens[end].text == ")":
            self.leave_out(i, end)
        elif self.tokens[end + 1].text in ASSIGNMENTS:
            last = end + 1
            while self.tokens[last + 1].text != ";":
                last += 1
                if self.tokens[last].match is not None and self.tokens[last].match > last:
                    last = self.tokens[last].match
            self.leave_out(i, last)

    def leave_out(self, first, last):
        if any(t.text == "{" for t in self.tokens[first:last]):
            return
        self.sites.append(Site(first, last, "kept", ["left out"], "kept", first))


def edits_of(site, number, tokens):
    """(place, closes before opens, outer first, text) of each insertion, and (start, end, text) of each replacement."""
    name = f"::libtrain::mutants::{site.function}<{number}>("
    first, last = tokens[site.first], tokens[site.last]
    width = last.end - first.start
    nesting = {"kept": 0, "condition": 1}.get(site.function, 2)  # of sites that are as wide, which is the outer one
    opens = lambda place, text: (place, 1, (-width, nesting), text, place)
    closes = lambda place, text: (place, 0, (width, -nesting), text, place)
    if site.edits == "name":
        return [(first.start, 1, (0, 0), name[:-1], last.end)]
    if site.edits == "sign":
        return [(first.start, 1, (-width, nesting), name, first.end), closes(last.end, ")")]
    if site.edits == "kept":
        return [opens(first.start, f"{name}) ? void(("), closes(last.end, ")) : void()")]
    if isinstance(site.edits, tuple):
        (end, begin) = site.edits
        a, b = tokens[site.first].start, tokens[begin].start
        return [opens(a, name), closes(tokens[end].end, f", @{begin}-{site.last}@)"), opens(b, name), closes(last.end, f", @{site.first}-{end}@)")]
    out = [opens(first.start, name), closes(last.end, ")")]
    if site.edits is not None:
        out.append((tokens[site.edits].start, 1, (0, 0), ",", tokens[site.edits].end))
    return out


def overlaps(sites):
    """Leaves out sites of exchanged arguments that hold or lie in another such site."""
    kept, taken = [], set()
    for site in sites:
        if isinstance(site.edits, tuple):
            span = set(range(site.first, site.last + 1))
            if span & taken:
                continue
            taken |= span
        kept.append(site)
    return kept


def rewritten(text, sites, numbers, tokens):
    edits = [edit for site, number in zip(sites, numbers) for edit in edits_of(site, number, tokens)]
    out, at = [], 0
    for start, _, _, inserted, end in sorted(edits, key=lambda e: (e[0], e[1], e[2])):
        out += [text[at:start], re.sub(r"@(\d+)-(\d+)@", lambda m: text[tokens[int(m[1])].start:tokens[int(m[2])].end], inserted)]
        at = end
    return '#include "tests/mutants/mutant.h"\n' + "".join(out) + text[at:]


def mutate(path, text, first_number, wanted):
    """The text with the sites of wanted mutants (a predicate of their keys) in it, and the mutants."""
    finder = Finder(text)
    names, mutants, sites, numbers = collections.Counter(), [], [], []
    for site in overlaps(finder.find()):
        token = finder.tokens[site.at]
        what = " ".join(text[finder.tokens[site.first].start:finder.tokens[site.last].end].split())
        place = f"{path}: {finder.source.line_text(token.line)} | {what if len(what) < 90 else what[:90] + ' ...'}"
        chosen = []
        for offset, change in enumerate(site.changes):
            key = f"{place} | {site.function}: {change}"
            names[key] += 1
            key += f" (no. {names[key]})" if names[key] > 1 else ""
            if wanted(key):
                chosen.append(Mutant(key, first_number + offset, first_number, path))
        if chosen:
            sites.append(site)
            numbers.append(first_number)
            mutants += chosen
            first_number += len(site.changes)
    return rewritten(text, sites, numbers, finder.tokens), mutants, first_number


def share(percent):
    """Keeps that many of a hundred, by a hash of the key: the same ones whatever else changes."""
    return lambda key: zlib.crc32(key.encode()) % 1000 < percent * 10
