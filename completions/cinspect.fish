# fish completion for cinspect, which returns the candidates each time.
function __cinspect_complete
    set -l words (commandline -opc)
    set -l index (count $words)
    set -lx CINSPECT_COMPLETE q$index
    command cinspect -- $words (commandline -ct) 2>/dev/null
end
complete -c cinspect -f -k -a '(__cinspect_complete)'
