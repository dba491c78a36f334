"""blocklist: blocks names of lists, and applies response policy zones (RPZ).

The modules in reading order: `setup` parses the directive. `handler` is the handler in the chain:
it searches the rules in a `table` for the query and for its reply (`inspecting`), and `acting`
makes the reply for a rule. `lists` has the table in use and watches the files, which `loader` finds
(`files`, `transferring`) and compiles. `compiling` makes a table of files, in a process of its own
(`compiler`), with the readers `list_lines`, `names`, `rpz` and `zone_text`; `table_writer` writes
it. `sharing` passes tables to other processes of the server. `rule` defines the parts of a rule.
"""

from corepy_blocklist.setup import setup as setup

api_version = 1
