"""What completes `corepy` in bash and zsh, made from the command's own parser.

The words of a plugin's command are taken from what it prints for `-h` when they are completed, so a
command needs nothing of its own for it. Only the command and its first word are given to it, no
flags: what is run to complete a line must not be able to do what the line would do. Where a script
can offer nothing, files are offered.
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
"""From the help of argparse: flags, and what stands in braces to choose from."""

SHELLS: Final = ("bash", "zsh")


def script(shell: str, parser: argparse.ArgumentParser, commands: Sequence[str]) -> str:
    """Return what `shell` has to read to complete the command of `parser`, with its `commands`."""
    bash = shell == "bash"
    flags = " ".join(_names(parser)) if bash else "\n".join(_zsh_flags(parser))
    text = BASH.replace("@VALUES@", "\n".join(_bash_values(parser))) if bash else ZSH
    text = text.replace("@WORDS@", _WORDS).replace("@COMMANDS@", " ".join(commands))
    return text.replace("@FLAGS@", flags)


def _names(parser: argparse.ArgumentParser) -> list[str]:
    """Return the flags as they are usually written, with one dash."""
    return [name for action in parser._actions for name in _single(action)]


def _single(action: argparse.Action) -> list[str]:
    return [name for name in action.option_strings if not name.startswith("--")]


def _bash_values(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a branch for each flag with a value."""
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
    """Yield the line of _arguments for each flag."""
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
