"""The expression language of CoreDNS's *view* and *template*, for plugins (docs/expressions.md).

A plugin compiles expressions in its setup and evaluates them for each query:

    environment = Environment.of(query_functions())

    def setup(controller):
        for _ in controller.single():
            expression = read_expression(controller, controller.arguments(1), environment)

    expression.evaluate(request)

The values come from untrusted queries, so each evaluation has limits (`frame.py`), and raises
nothing but `ExpressionError`.
"""

from corepy.expr.conditions import Conditions as Conditions
from corepy.expr.corefile_text import read_conditions as read_conditions
from corepy.expr.corefile_text import read_expression as read_expression
from corepy.expr.expr_environment import Compiled as Compiled
from corepy.expr.expr_environment import Environment as Environment
from corepy.expr.expr_environment import Function as Function
from corepy.expr.expr_environment import Impossible as Impossible
from corepy.expr.expression import Expression as Expression
from corepy.expr.expression import compile_conditions as compile_conditions
from corepy.expr.expression import compile_expression as compile_expression
from corepy.expr.expression import is_free as is_free
from corepy.expr.frame import ExpressionError as ExpressionError
from corepy.expr.plain_values import plain as plain
from corepy.expr.query_functions import query_functions as query_functions
from corepy.expr.syntax import ExpressionProblem as ExpressionProblem
from corepy.expr.value_types import ANY as ANY
from corepy.expr.value_types import BOOL as BOOL
from corepy.expr.value_types import FLOAT as FLOAT
from corepy.expr.value_types import INT as INT
from corepy.expr.value_types import STRING as STRING
from corepy.expr.value_types import STRINGS as STRINGS
from corepy.expr.value_types import Type as Type
