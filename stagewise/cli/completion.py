"""Shell completion: what can stand where, and how each shell is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# What makes zsh and fish complete: as in bash, what stagewise knows, and else what the shell knows of files.
#
# click's own scripts for them lose runs and pipeline files where nothing is typed yet, know nothing of `--set=KEY`, and
# put a space after a key that goes on.

ZSH = r"""#compdef stagewise

(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }

_stagewise_completion() {
    (( $+commands[stagewise] )) || return 1
    local -a response plain described paths
    local type key help
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) \
        _STAGEWISE_COMPLETE=zsh_complete stagewise)}")
    for type key help in "${(@)response}"; do
        case $type:$help in
            plain:_) plain+=("$key") ;;
            plain:*) described+=("$key:$help") ;;
            dir:*) paths=(-/) ;;
            file:*) paths=(-f) ;;
        esac
    done
    [[ $PREFIX == --*=* ]] && compset -P "${PREFIX%%=*}="
    if (( $#plain + $#described )); then
        (( $#described )) && _describe -V stagewise described
        compadd -S '' -- ${(M)plain:#*[.=]}
        compadd -- ${plain:#*[.=]}
    elif (( $#paths )); then
        _path_files $paths
    fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _stagewise_completion "$@"
else
    compdef _stagewise_completion stagewise
fi
"""

FISH = r"""function _stagewise_completion
    command -q stagewise; or return
    set -l word (commandline -ct)
    set -l option (string match -r -- '^--[^=]*=' $word)
    set -l typed (string replace -- "$option" '' $word)
    set -l bare (string replace -r -- '^["\']' '' $typed)
    set -l found
    set -l paths
    for line in (env _STAGEWISE_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=$word stagewise)
        set -l part (string split -m 1 , -- $line)
        switch $part[1]
            case plain
                set -a found "$option$part[2]"
            case dir
                set paths (__fish_complete_directories "$bare")
            case file
                set paths (__fish_complete_path "$bare")
        end
    end
    if set -q found[1]
        string join -- \n $found
    else if set -q paths[1]
        string join -- \n "$option"$paths
    end
end

complete --no-files --command stagewise --arguments "(_stagewise_completion)"
"""


# Shell completion: the verb that prints a shell's script, and what completes runs, pipeline files, stages and keys.
#
# What completes is asked for at every press of the tab key: it imports no torch, and never fails.

Found = Iterator[str]
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, runs and stages.

    Type the line of your shell once, then open a new shell:

    \b
    stagewise completion bash >> ~/.bashrc
    stagewise completion zsh >> ~/.zshrc
    stagewise completion fish >> ~/.config/fish/config.fish
    """
    from click.shell_completion import BashComplete

    command = click.get_current_context().find_root().command
    script = {"zsh": ZSH, "fish": FISH}.get(shell)
    if script is None:
        script = BashComplete(command, {}, "stagewise", "_STAGEWISE_COMPLETE").source()
        # It ends every completion with a space, also a key that goes on.
        script = script.replace(
            "    return 0\n", '    [[ "${COMPREPLY[0]-}" == *[.=] ]] && compopt -o nospace\n    return 0\n'
        )
    click.echo(script, nl=False)


def _runs(incomplete: str) -> Found:
    """Yield the runs below runs/, and those in the folder that is typed."""
    from stagewise.runs.folder import LOCK_FILE

    for start, pattern in (("runs/", "*"), ("runs/", "*/*"), (_typed_folder(incomplete), "*")):
        for lock in Path(start).glob(f"{pattern}/{LOCK_FILE}"):
            yield start + lock.parent.relative_to(start).as_posix()


def _pipeline_files(incomplete: str) -> Found:
    """Yield the TOML files in pipelines/, and those in the folder that is typed."""
    for start in ("pipelines/", _typed_folder(incomplete)):
        for file in Path(start).glob("*.toml"):
            yield start + file.name


def _keys(context: click.Context, incomplete: str) -> Found:
    """Yield keys that go on by one part: those that the schema knows, and those that the file has."""
    from stagewise.pipeline.problems import models_in
    from stagewise.pipeline.schema import PipelineFile, with_defaults
    from stagewise.pipeline.source import child, find_item

    tree = _pipeline(context)
    node: Any = {"stage": [], "probe": []} | tree | with_defaults(tree)
    model: Any = PipelineFile
    head, dot, _ = incomplete.rpartition(".")
    for part in head.split(".") if dot else ():
        if isinstance(node, list):
            index = find_item(node, part)
            node, model = (None, None) if index is None else (node[index], model)
        else:
            field = model.model_fields.get(part) if model else None
            model = next(models_in(field.annotation), None) if field else None
            node = child(node, part)
    if isinstance(node, list):
        yield from (f"{head}{dot}{name}." for name in _names(node))
        return
    fields = {name: field.annotation for name, field in model.model_fields.items()} if model else {}
    for name in {**fields, **(node if isinstance(node, dict) else {})}:
        table = isinstance(child(node, name), dict | list) or any(models_in(fields.get(name)))
        yield f"{head}{dot}{name}{'.' if table else '='}"


def _typed_folder(incomplete: str) -> str:
    return incomplete[: incomplete.rfind("/") + 1]


def _names(tables: Any) -> list[str]:
    return [table["name"] for table in tables if isinstance(table["name"], str)] if isinstance(tables, list) else []


def _pipeline(context: click.Context) -> dict[str, Any]:
    """Return the pipeline, as it is written, of the file or run on the command line, or of the last run."""
    import tomllib

    from stagewise import durable
    from stagewise.runs.folder import LOCK_FILE, find_run

    # Behind an option that waits for its value, click has not told arguments and options apart.
    words = [word for value in (*context.params.values(), context.args) for word in _flat(value)]
    for path in map(Path, sorted(words, key=lambda word: not word.endswith(".toml"))):
        if path.suffix == ".toml" and path.is_file():
            return tomllib.loads(path.read_text())
        if (path / LOCK_FILE).is_file():
            break
    else:
        path = find_run(None).path
    pipeline: dict[str, Any] = durable.read_sealed(path / LOCK_FILE, "")["pipeline"]
    return pipeline


def _flat(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list | tuple) else [value]) if each]


def _completing(candidates: Callable[[click.Context, str], Iterable[str]], shell_type: str = "") -> Completer:
    """Complete by candidates; what the shell completes itself, a "file" or a "dir", it offers where there are none."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        items = [CompletionItem(incomplete, type=shell_type)] if shell_type else []
        try:
            found = {each for each in candidates(context, incomplete) if each.startswith(incomplete)}
        except Exception:  # a message in the middle of a line that is being typed helps nobody
            found = set()
        return items + [CompletionItem(each) for each in sorted(found) if each.isprintable()]

    return complete


runs = _completing(lambda _, incomplete: _runs(incomplete), "dir")
inputs = _completing(lambda context, incomplete: () if context.params.get("inputs") else _runs(incomplete), "file")
pipeline_files = _completing(lambda _, incomplete: _pipeline_files(incomplete), "file")
stages = _completing(lambda context, _: _names(_pipeline(context).get("stage")))
probes = _completing(lambda context, _: _names(_pipeline(context).get("probe")))
keys = _completing(_keys)
keys_alone = _completing(lambda context, typed: (key.rstrip("=") for key in _keys(context, typed)))
