"""Compile the syntax tree of a template's blocks to closures (Go: text/template, exec.go)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark import Token, Tree

from corepy_template.pipelines import PipelineCompiler, assigns, problem
from corepy_template.rendering import (
    BREAK,
    CONTINUE,
    GO_ON,
    Frame,
    Node,
    range_items,
    sequence,
    text_node,
)
from corepy_template.values import is_true, show


class Compiler(PipelineCompiler):
    """Compiles one template: `body` returns its node, attributes have its fields and problems."""

    _loops = 0

    def body(self, tree: Tree[Token]) -> Node:
        """Return the node for a body, which is the scope of its variables."""
        with self.scope():
            return sequence([self._node(child) for child in tree.children])

    def _node(self, piece: Tree[Token] | Token) -> Node:
        if isinstance(piece, Token):
            return text_node(str(piece))
        build: Callable[[list[Any]], Node] = getattr(self, f"_{piece.data}".rstrip("_"))
        return build(piece.children)

    def _action(self, children: list[Any]) -> Node:
        (tree,) = children
        evaluate = self.pipeline(tree)
        if assigns(tree):

            def store(frame: Frame) -> int:
                frame.count_steps()
                evaluate(frame)
                return GO_ON

            return store

        def put(frame: Frame) -> int:
            frame.count_steps()
            frame.put(show(evaluate(frame)))
            return GO_ON

        return put

    def _if(self, children: list[Any]) -> Node:
        return self._branch(children, None)

    _else_if = _if

    def _with(self, children: list[Any]) -> Node:
        return self._branch(children, False)

    _else_with = _with

    def _else(self, children: list[Any]) -> Node:
        with self.nested(children[0]):
            return self.body(children[0])

    def _branch(self, children: list[Any], dot_is_data: bool | None) -> Node:
        """Compile `if`, or `with`, whose body has the value as its dot."""
        condition_tree, body_tree, *rest = children
        with self.scope():
            condition = self.pipeline(condition_tree)
            with self.nested(condition_tree), self.scope(dot_is_data):
                body = self.body(body_tree)
            otherwise = self._node(rest[0]) if rest else None
        moves_dot = dot_is_data is not None

        def branch(frame: Frame) -> int:
            frame.count_steps()
            value = condition(frame)
            if not is_true(value):
                return otherwise(frame) if otherwise is not None else GO_ON
            if not moves_dot:
                return body(frame)
            before, frame.dot = frame.dot, value
            signal = body(frame)
            frame.dot = before
            return signal

        return branch

    def _range(self, children: list[Any]) -> Node:
        tree, body_tree, *rest = children
        with self.scope():
            evaluate, slots = self.range_pipeline(tree)
            self._loops += 1
            with self.nested(tree), self.scope(dot_is_data=False):
                body = self.body(body_tree)
            self._loops -= 1
            otherwise = self._node(rest[0]) if rest else None

        def loop(frame: Frame) -> int:
            frame.count_steps()
            value = evaluate(frame)
            pairs = range_items(value, len(slots))
            if not pairs:
                for slot, _ in slots:
                    frame.variables[slot] = value
                return otherwise(frame) if otherwise is not None else GO_ON
            before = frame.dot
            for pair in pairs:
                frame.count_steps()
                frame.dot = pair[1]
                for slot, part in slots:
                    frame.variables[slot] = pair[part]
                if body(frame) == BREAK:
                    break
            frame.dot = before
            return GO_ON

        return loop

    def _break(self, children: list[Token]) -> Node:
        return self._jump(children[0], "break", BREAK)

    def _continue(self, children: list[Token]) -> Node:
        return self._jump(children[0], "continue", CONTINUE)

    def _jump(self, token: Token, word: str, signal: int) -> Node:
        if not self._loops:
            raise problem(f"{{{{{word}}}}} outside {{{{range}}}}", token)
        return lambda frame: signal
