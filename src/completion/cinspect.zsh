#compdef cinspect
# zsh completion for cinspect: it is asked with the words of the line, and gives what fits.
_cinspect() {
    local line value about tab=$'\t'
    local -a open open_shown done done_shown
    local -i widest=0
    local -a lines=("${(@f)$(CINSPECT_COMPLETE=$((CURRENT - 1)) ${(Q)words[1]} -- \
        "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2> /dev/null)}")
    for line in $lines; do
        value=${line%%$tab*}
        (( $#value <= widest )) || widest=$#value
    done
    (( widest <= 32 )) || widest=32
    for line in $lines; do
        value=${line%%$tab*} about=${line#*$tab}
        [[ -n $value ]] || continue
        [[ -z $about ]] || about="${(r:widest:)value}  -- $about"
        # More follows a folder, or a container before its path.
        case $value in
            *[:/=]) open+=("$value") open_shown+=("${about:-$value}") ;;
            *) done+=("$value") done_shown+=("${about:-$value}") ;;
        esac
    done
    local -a as_list
    [[ -z $about ]] || as_list=(-l)
    (( ! $#open )) || compadd $as_list -V open -S '' -d open_shown -a open
    (( ! $#done )) || compadd $as_list -V done -d done_shown -a done
}
# As a file in fpath it is the function's body; sourced, it has to be made known.
if [[ $funcstack[1] == _cinspect ]]; then
    _cinspect "$@"
elif (( $+functions[compdef] )); then
    compdef _cinspect cinspect
fi
