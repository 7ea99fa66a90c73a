#compdef cinspect
# zsh completion for cinspect, which returns the candidates each time.
_cinspect() {
    local line value description tab=$'\t'
    local -a partial partial_shown complete complete_shown other
    local -i width=0
    local -a lines=("${(@f)$(CINSPECT_COMPLETE=$((CURRENT - 1)) ${(Q)words[1]} -- \
        "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null)}")
    for line in $lines; do
        value=${line%%$tab*}
        (( $#value <= width )) || width=$#value
    done
    (( width <= 32 )) || width=32
    for line in $lines; do
        value=${line%%$tab*} description=${line#*$tab}
        [[ -n $value ]] || continue
        [[ -z $description ]] || description="${(r:width:)value}  -- $description"
        # A file whose name has a colon is offered with `./` before it.
        if [[ $value == ./* && $value != "${(Q)PREFIX}"* ]]; then
            other+=("$value")
            continue
        fi
        # A directory, or a container before its path, is not the end of the word.
        case $value in
            *[:/=]) partial+=("$value") partial_shown+=("${description:-$value}") ;;
            *) complete+=("$value") complete_shown+=("${description:-$value}") ;;
        esac
    done
    local -a as_list
    [[ -z $description ]] || as_list=(-l)
    (( ! $#other )) || compadd -U -V other -a other
    (( ! $#partial )) || compadd $as_list -V partial -S '' -d partial_shown -a partial
    (( ! $#complete )) || compadd $as_list -V complete -d complete_shown -a complete
}
# As a file in fpath this is the body of the function; if it is sourced, it has to be registered.
if [[ $funcstack[1] == _cinspect ]]; then
    _cinspect "$@"
elif (( $+functions[compdef] )); then
    compdef _cinspect cinspect
fi
