"""What makes zsh and fish complete: as in bash, what stagewise knows, and else what the shell knows of files.

click's own scripts for them lose runs and pipeline files where nothing is typed yet, know nothing of `--set=KEY`, and
put a space after a key that goes on.
"""

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
