# fish completion for cinspect: it is asked with the words of the line, and gives what fits.
function __cinspect_complete
    set -l words (commandline -opc)
    set -l at (count $words)
    set -lx CINSPECT_COMPLETE q$at
    command cinspect -- $words (commandline -ct) 2>/dev/null
end
complete -c cinspect -f -k -a '(__cinspect_complete)'
