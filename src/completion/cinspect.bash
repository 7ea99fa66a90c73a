# bash completion for cinspect: it is asked with the words of the line, and gives what fits.
_cinspect() {
    local line=${COMP_LINE:0:COMP_POINT} word i index=-1
    local -a words=() values=() abouts=()
    # Bash parts words at the characters of COMP_WORDBREAKS too: `docker:web` would be three. What
    # stands together in the line is one word.
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
        # Within quotes nothing was parted, and nothing needs a backslash.
        [\'\"]*) quote= ;;
        # Only what stands behind the last of these characters is replaced.
        *) [[ -z $breaks ]] || before=${words[index]%"${words[index]##*[$breaks]}"} ;;
    esac
    before=${before//\\/}

    local value about
    while IFS=$'\t' read -r value about; do
        [[ -n $value ]] || continue
        [[ $value == "$before"* ]] && value=${value#"$before"}
        # (A comma is quoted for braces, and stands in none.)
        [[ -z $quote ]] || { printf -v value %q "$value" && value=${value//\\,/,}; }
        values+=("$value") abouts+=("$about")
    done < <(CINSPECT_COMPLETE=q$index "$1" -- "${words[@]}" 2> /dev/null)

    COMPREPLY=("${values[@]}")
    if ((${#values[@]} == 1)); then
        [[ ${values[0]} != *[:/=] ]] || compopt -o nospace 2> /dev/null
    elif ((${#values[@]} > 1)) && [[ $COMP_TYPE != 37 ]]; then
        # Shown beside each other; what they have in common is inserted, which ends before the spaces.
        local widest=0 room=$((${COLUMNS:-80} - 4))
        for value in "${values[@]}"; do ((${#value} <= widest)) || widest=${#value}; done
        ((widest <= 32)) || widest=32
        for i in "${!values[@]}"; do
            [[ -n ${abouts[i]} ]] || continue
            printf -v value '%-*s  (%s)' "$widest" "${values[i]}" "${abouts[i]}"
            ((${#value} <= room || room <= widest + 8)) || value="${value:0:room-1})"
            COMPREPLY[i]=$value
        done
    fi
}
complete -o nosort -F _cinspect cinspect 2> /dev/null || complete -F _cinspect cinspect
