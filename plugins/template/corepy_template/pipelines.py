"""Compile pipelines: the expressions inside the braces, without the keywords of blocks.

Everything that is independent of the query is resolved here: names of functions and variables,
constants, and the set of fields used. Texts that Go's parser rejects raise `SyntaxProblem`. Errors
that Go finds only during execution are found during execution here as well, because a template that
CoreDNS loads must load; `PipelineCompiler.warnings` lists them for warnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lark import Token, Tree

from corepy_template import operands
from corepy_template.functions import FUNCTIONS
from corepy_template.rendering import MOST_NESTING, Evaluate, Frame, SyntaxProblem

_KEYWORDS: Final = {
    "block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"
}  # fmt: skip

_MAPS: Final = ("Group", "Var")
"""The fields whose parts depend on the options of the directive."""


class PipelineCompiler:
    """Compiles the pipelines of one template; `data_fields` are the fields that the data has."""

    def __init__(self, data_fields: frozenset[str]) -> None:
        self.fields: set[str] = set()
        """The fields of the data that the template uses; "*" means the data as a whole."""
        self.variables = 0
        self.warnings: list[SyntaxProblem] = []
        self.members: list[tuple[str, str, int]] = []
        """The parts of the fields Group and Var that the template uses, with their offsets."""
        self.labels: list[tuple[str, int]] = []
        """The labels of metadata that the template reads, with their offsets."""
        self._data_fields = data_fields
        self._scopes: list[dict[str, int]] = [{}]
        self._dot_is_data = True
        self._depth = 0

    @contextmanager
    def scope(self, dot_is_data: bool | None = None) -> Iterator[None]:
        """Open a scope for variables for the duration of the `with` statement.

        `dot_is_data` is whether the dot is the data in that scope; None means no change.
        """
        before = self._dot_is_data
        self._dot_is_data = before if dot_is_data is None else dot_is_data
        self._scopes.append({})
        try:
            yield
        finally:
            self._scopes.pop()
            self._dot_is_data = before

    @contextmanager
    def nested(self, piece: Tree[Token]) -> Iterator[None]:
        """Count a level of nesting while it is compiled; raises SyntaxProblem if it is too deep.

        Nested text becomes nested calls during rendering, and the depth of these is limited.
        """
        self._depth += 1
        if self._depth > MOST_NESTING:
            token = next(piece.scan_values(lambda _: True), None)
            offset = (token.start_pos or 0) if token is not None else 0
            raise SyntaxProblem(f"nested more than {MOST_NESTING} deep", offset)
        try:
            yield
        finally:
            self._depth -= 1

    def range_pipeline(self, tree: Tree[Token]) -> tuple[Evaluate, list[tuple[int, int]]]:
        """Return the value to iterate over, and the slots for index (0) and element (1)."""
        names = [child for child in tree.children if _is(child, "VARIABLE")]
        evaluate = self._commands(tree)
        assign = any(_is(child, "ASSIGN") for child in tree.children)
        parts = range(2 - len(names), 2)
        slots = [self._slot(name, assign) for name in names]
        return evaluate, list(zip(slots, parts, strict=True))

    def pipeline(self, tree: Tree[Token]) -> Evaluate:
        """Return the value of a pipeline, which also sets its variable if it has one."""
        evaluate = self._commands(tree)
        if not assigns(tree):
            return evaluate
        name, operator = tree.children[:2]
        slot = self._slot(name, _is(operator, "ASSIGN"))

        def declare(frame: Frame) -> object:
            value = evaluate(frame)
            frame.variables[slot] = value
            return value

        return declare

    def _slot(self, name: Any, assign: bool) -> int:
        """Return the slot of a variable: the existing one to assign to, or a new one."""
        if "." in name or name == "$":
            raise problem(f"cannot set {name}", name)
        if assign:
            return self._known_slot(name, str(name))
        slot = self._scopes[-1][str(name)] = self._new_slot()
        return slot

    def _new_slot(self) -> int:
        self.variables += 1
        return self.variables - 1

    def _known_slot(self, token: Token, name: str) -> int:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise problem(f"undefined variable {name}", token)

    def _commands(self, tree: Tree[Token]) -> Evaluate:
        children = (child for child in tree.children if isinstance(child, Tree))
        commands = (child.children for child in children if child.data == "command")
        value: Evaluate | None = None
        for number, words in enumerate(commands):
            value = self._command(words, value, number)
        assert value is not None
        return value

    def _command(self, words: list[Any], piped: Evaluate | None, stage: int) -> Evaluate:
        """Compile one command; `piped` is the previous command's value, its last argument."""
        first, *rest = words
        if stage and (_is(first, *operands.LITERALS) or _constant_name(first)):
            raise problem(f"non executable command in pipeline stage {stage + 1}", first)
        arguments = [self._operand(word) for word in rest]
        self._note_label(first, rest)
        if piped is not None:
            slot = self._new_slot()
            arguments.append(operands.variable(slot))
            return operands.after(piped, slot, self._apply(first, arguments))
        return self._apply(first, arguments)

    def _note_label(self, first: Any, arguments: list[Any]) -> None:
        """Record the label of `.Meta "label"`."""
        is_label = _is(first, "FIELDS", "VARIABLE") and _names(first) == ["Meta"]
        if is_label and arguments and _is(arguments[0], "STRING", "RAW_STRING"):
            token = arguments[0]
            self.labels.append((str(operands.constant(token)), token.start_pos or 0))

    def _apply(self, first: Any, arguments: list[Evaluate]) -> Evaluate:
        if _is(first, "NAME") and not _constant_name(first):
            return self._call(first, arguments)
        if _is(first, "NAME") and first == "nil":
            self.warnings.append(problem("nil is not a command", first))
            return operands.fail("nil is not a command")
        if not arguments:
            return self._operand(first)
        return self._call_member(first, arguments)

    def _call(self, token: Token, arguments: list[Evaluate]) -> Evaluate:
        name = str(token)
        if name in ("and", "or"):
            return operands.and_or(name, arguments)
        function = FUNCTIONS.get(name)
        if function is None:
            raise self._unknown_function(token)
        complaint = function.complaint(name, len(arguments))
        if complaint:
            self.warnings.append(problem(complaint, token))
            return operands.fail(complaint)
        return operands.call(name, function.call, arguments)

    def _unknown_function(self, token: Token) -> SyntaxProblem:
        if token in _KEYWORDS:
            return problem(f"unexpected {{{{{token}}}}}", token)
        known = ", ".join(sorted([*FUNCTIONS, "and", "or"]))
        return problem(f"function {str(token)!r} not defined", token, f"functions: {known}")

    def _operand(self, word: Any) -> Evaluate:
        if isinstance(word, Tree):
            pipeline, end = word.children
            with self.nested(pipeline):
                return operands.fields(self.pipeline(pipeline), _names(end))
        if word.type == "NAME" and not _constant_name(word):
            return self._call(word, [])
        if word.type not in ("FIELDS", "DOT", "VARIABLE"):
            return self._constant(word)
        base, names = self._base(word)
        return operands.fields(base, names)

    def _constant(self, token: Token) -> Evaluate:
        try:
            value = operands.constant(token)
        except ValueError as error:
            raise problem(f"bad {token.type.lower().replace('_', ' ')}: {error}", token) from None
        return lambda frame: value

    def _base(self, token: Token) -> tuple[Evaluate, list[str]]:
        """Return the base of a chain of fields, and the fields."""
        names = _names(token)
        if token.type != "VARIABLE":
            if self._dot_is_data:
                self._note(token, names)
            return operands.dot, names
        name = str(token).partition(".")[0]
        if name == "$":
            self._note(token, names)
            return operands.data, names
        slot = self._known_slot(token, name)
        return operands.variable(slot), names

    def _note(self, token: Token, names: list[str]) -> None:
        """Record that the template uses a field of the data, or all of it."""
        self.fields.add(names[0] if names else "*")
        if len(names) > 1 and names[0] in _MAPS:
            self.members.append((names[0], names[1], token.start_pos or 0))
        if names and names[0] not in self._data_fields:
            known = ", ".join(sorted(self._data_fields))
            self.warnings.append(problem(f"no such field: .{names[0]}", token, f"fields: {known}"))

    def _call_member(self, first: Any, arguments: list[Evaluate]) -> Evaluate:
        """Compile a command with arguments that is not a function: a method, or an error."""
        if isinstance(first, Tree):
            pipeline, end = first.children
            with self.nested(pipeline):
                base, names = self.pipeline(pipeline), _names(end)
        elif first.type in ("FIELDS", "VARIABLE"):
            base, names = self._base(first)
        else:
            names = []
        if not names:
            complaint = "can't give argument to non-function"
            self.warnings.append(problem(complaint, _first_token(first)))
            return operands.fail(complaint)
        *path, method = names
        return operands.call_member(operands.fields(base, path), method, arguments)


def _is(piece: Any, *kinds: str) -> bool:
    """Return whether a token has one of the types, or a tree one of the rules."""
    return (piece.type if isinstance(piece, Token) else piece.data) in kinds


def assigns(tree: Tree[Token]) -> bool:
    """Return whether a pipeline sets a variable; its value is then not written to the text."""
    return _is(tree.children[0], "VARIABLE")


def _constant_name(word: Any) -> bool:
    return _is(word, "NAME") and str(word) in operands.NAMED_CONSTANTS


def _names(token: Any) -> list[str]:
    """Return the field names in a token, such as a and b in `.a.b`, `$x.a.b` or `).a.b`."""
    return [] if token.type == "DOT" else str(token).split(".")[1:]


def _first_token(piece: Any) -> Token:
    return piece if isinstance(piece, Token) else next(piece.scan_values(lambda _: True))


def problem(message: str, token: Token, hint: str | None = None) -> SyntaxProblem:
    """Return a `SyntaxProblem` at the position of a token."""
    return SyntaxProblem(message, token.start_pos or 0, hint)
