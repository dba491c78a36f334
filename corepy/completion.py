"""Completion scripts for bash and zsh, generated from the parser of `corepy`.

The script completes a plugin's command with the words in its `-h` output, so a command needs no
code for it. It runs only the command and its first word with `-h`, without the flags on the line,
so that completing a line can never execute it. With no words to offer, the script offers files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

BASH: Final = """\
# Completion of corepy for bash: corepy -completion bash
_corepy() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words line
    if [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD - 2]}; fi
    if [[ $cur == = ]]; then cur=; fi
    COMPREPLY=()
    case ${prev/#--/-} in
@VALUES@
    esac
    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]]; then
        line=("${COMP_WORDS[@]:0:2}")
        ((COMP_CWORD > 2)) && [[ ${COMP_WORDS[2]} == [a-z]* ]] && line+=("${COMP_WORDS[2]}")
        words=$("${line[@]}" -h 2>/dev/null | @WORDS@)
    else
        words="@FLAGS@"
        ((COMP_CWORD == 1)) && words+=" @COMMANDS@"
    fi
    [[ $cur == --* ]] && words=" $words" && words=${words// -/ --}
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _corepy corepy
"""

ZSH: Final = """\
#compdef corepy
# Completion of corepy for zsh: corepy -completion zsh
_corepy() {
    if (( CURRENT > 2 )) && [[ $words[2] != -* ]]; then
        local -a found line=($words[1,2])
        (( CURRENT > 3 )) && [[ $words[3] == [a-z]* ]] && line+=($words[3])
        found=(${(f)"$($line -h 2>/dev/null | @WORDS@)"})
        _alternative 'words:word:compadd -a found' 'files:file:_files'
        return
    fi
    _arguments \\
@FLAGS@
        '1:command:(@COMMANDS@)'
}
if [[ $funcstack[1] == _corepy ]]; then _corepy "$@"; else compdef _corepy corepy; fi
"""

_WORDS: Final = (
    r"grep -oE -- '(^|[^-a-z])-[a-z][a-z.-]*|\{[a-z,-]+\}'"
    r" | tr -d '[({|]})' | tr -s ', ' '\n\n' | sort -u"
)
"""Extracts from argparse's help the flags and the choices in braces."""


def script(shell: str, parser: argparse.ArgumentParser, commands: Sequence[str]) -> str:
    """Return the completion script in the language of `shell` for `parser` and `commands`."""
    bash = shell == "bash"
    flags = " ".join(_names(parser)) if bash else "\n".join(_zsh_flags(parser))
    text = BASH.replace("@VALUES@", "\n".join(_bash_values(parser))) if bash else ZSH
    text = text.replace("@WORDS@", _WORDS).replace("@COMMANDS@", " ".join(commands))
    return text.replace("@FLAGS@", flags)


def _names(parser: argparse.ArgumentParser) -> list[str]:
    """Return the flags in their usual spelling, with one dash."""
    return [name for action in parser._actions for name in _single(action)]


def _single(action: argparse.Action) -> list[str]:
    return [name for name in action.option_strings if not name.startswith("--")]


def _bash_values(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a `case` branch for each flag that takes a value."""
    for action in parser._actions:
        if action.nargs == 0:
            continue
        names = "|".join(_single(action))
        if action.choices:
            words = " ".join(map(str, action.choices))
            yield f'        {names}) COMPREPLY=($(compgen -W "{words}" -- "$cur")); return ;;'
        elif action.metavar == "FILE":
            yield f"        {names}) return ;;"
        else:
            yield f"        {names}) compopt +o default; return ;;"


def _zsh_flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the argument of `_arguments` for each flag."""
    for action in parser._actions:
        names = action.option_strings
        value = ""
        if action.nargs != 0:
            label = action.metavar or action.dest
            choices = f"({' '.join(map(str, action.choices))})" if action.choices else ""
            value = f":{label}:{'_files' if label == 'FILE' else choices}"
        text = _zsh_quoted(action.help or "")
        yield f"        '({' '.join(names)})'{{{','.join(names)}}}'[{text}]{value}' \\"


def _zsh_quoted(text: str) -> str:
    for special in "\\[]:":
        text = text.replace(special, f"\\{special}")
    return text.replace("'", "'\\''")
