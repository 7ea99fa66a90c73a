# bash completion for cinspect, which returns the candidates each time.
_cinspect() {
    local line=${COMP_LINE:0:COMP_POINT} word i index=-1
    local -a words=() values=() descriptions=()
    # Bash also splits words at the characters of COMP_WORDBREAKS: `docker:web` would be three. Parts
    # without a blank between them are one word.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((index < 0)) || [[ $line == [[:space:]]* ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            words[++index]=
        fi
        ((i < COMP_CWORD)) || word=$line
        words[index]+=$word
        line=${line#"$word"}
    done

    local before='' quote=1 breaks=${COMP_WORDBREAKS//[^:=]/}
    case ${words[index]} in
        # Nothing was split within quotes, and nothing needs a backslash.
        [\'\"]*) quote= ;;
        # Only the text after the last of these characters is replaced.
        *) [[ -z $breaks ]] || before=${words[index]%"${words[index]##*[$breaks]}"} ;;
    esac
    before=${before//\\/}

    local value description
    while IFS=$'\t' read -r value description; do
        [[ -n $value ]] || continue
        [[ $value == "$before"* ]] && value=${value#"$before"}
        # (%q quotes a comma because of brace expansion, which does not apply here.)
        [[ -z $quote ]] || { printf -v value %q "$value" && value=${value//\\,/,}; }
        values+=("$value") descriptions+=("$description")
    done < <(CINSPECT_COMPLETE=q$index "$1" -- "${words[@]}" 2> /dev/null)

    COMPREPLY=("${values[@]}")
    if ((${#values[@]} == 1)); then
        [[ ${values[0]} != *[:/=] ]] || compopt -o nospace 2> /dev/null
    elif ((${#values[@]} > 1)) && [[ $COMP_TYPE != 37 ]]; then
        # Shown with their descriptions. Bash inserts the common prefix, which ends before the blanks.
        local width=0 room=$((${COLUMNS:-80} - 4))
        for value in "${values[@]}"; do ((${#value} <= width)) || width=${#value}; done
        ((width <= 32)) || width=32
        for i in "${!values[@]}"; do
            [[ -n ${descriptions[i]} ]] || continue
            printf -v value '%-*s  (%s)' "$width" "${values[i]}" "${descriptions[i]}"
            ((${#value} <= room || room <= width + 8)) || value="${value:0:room-1})"
            COMPREPLY[i]=$value
        done
    fi
}
complete -o nosort -F _cinspect cinspect 2> /dev/null || complete -F _cinspect cinspect
