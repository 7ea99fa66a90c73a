# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cinspect_global_optspecs
    string join \n json color= host-root= v/verbose h/help V/version
end

function __fish_cinspect_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cinspect_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cinspect_using_subcommand
    set -l cmd (__fish_cinspect_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cinspect -n "__fish_cinspect_needs_command" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_needs_command" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_needs_command" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_needs_command" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_needs_command" -s V -l version -d 'Print version'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "ls" -d 'List the containers on this host, of every engine'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "list" -d 'List the containers on this host, of every engine'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "ps" -d 'Show the process tree of containers, with each process\'s signal masks and handlers'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "signal" -d 'Send a signal to processes of a container: its init, or those that are chosen'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "kill" -d 'Send a signal to processes of a container: its init, or those that are chosen'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "signals" -d 'Show signal by signal what each process does with it, who blocks it, who waits for it, and what it would do'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "stop" -d 'Stop containers as their engines do, and say as it goes who was told, who left when and who was killed'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "doctor" -d 'Say why a stop would not be graceful, and what helps'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "exec" -d 'Run a command inside a container, or its user\'s shell'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "enter" -d 'Run a command inside a container, or its user\'s shell'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "cp" -d 'Copy files into a container, out of one, or from one to another'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "inspect" -d 'Show one page on a container: what it is, shares, may do, uses and mounts'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "completions" -d 'Print the completion script for a shell'
complete -c cinspect -n "__fish_cinspect_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -l runtime -d 'Only containers of this runtime: docker, podman, …, bare' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -s o -l columns -d 'Columns to show, or `help` for what there is; `+` before the first adds to the usual ones' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -s q -l quiet -d 'Print ids only'
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -l no-trunc -d 'Do not shorten ids and images'
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -l runtime -d 'Only containers of this runtime: docker, podman, …, bare' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -s o -l columns -d 'Columns to show, or `help` for what there is; `+` before the first adds to the usual ones' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -s q -l quiet -d 'Print ids only'
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -l no-trunc -d 'Do not shorten ids and images'
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -s o -l columns -d 'Columns to show, or `help` for what there is; `+` before the first adds to the usual ones' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l sort -d 'Sort by a column, `-` before it for the largest first; in the tree, brothers are sorted' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l signal -d 'Show what this signal would do, not the container\'s stop signal' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l flat -d 'List processes without the tree'
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -s T -l threads -d 'Show threads too, each with its own masks'
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l raw -d 'Show masks in hexadecimal, as the kernel does'
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l pid -d 'The process with this number inside the container' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l host-pid -d 'The process with this number on the host' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l tid -d 'One thread, by its number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l comm -d 'Processes with exactly this name' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l match -d 'Processes whose whole command line this regular expression matches' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l user -d 'Processes of this user, by name or number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l tree -d 'A process and all that descend from it' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l group -d 'The processes of a process group, by its number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s q -l queue -d 'Send this value along, as sigqueue(3) does' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l wait -d 'Wait until the targets have ended, at most this long' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s k -l kill-after -d 'KILL what is left after this time' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l all -d 'Every process of the container, those that appear meanwhile too'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l except-init -d 'Leave the init out of what is chosen'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s n -l dry-run -d 'Show what would be hit, and send nothing'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s r -l require-handler -d 'Send nothing unless every target has a handler for the signal'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s l -l list -d 'List the signals'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand signal" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l pid -d 'The process with this number inside the container' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l host-pid -d 'The process with this number on the host' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l tid -d 'One thread, by its number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l comm -d 'Processes with exactly this name' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l match -d 'Processes whose whole command line this regular expression matches' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l user -d 'Processes of this user, by name or number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l tree -d 'A process and all that descend from it' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l group -d 'The processes of a process group, by its number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s q -l queue -d 'Send this value along, as sigqueue(3) does' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l wait -d 'Wait until the targets have ended, at most this long' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s k -l kill-after -d 'KILL what is left after this time' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l all -d 'Every process of the container, those that appear meanwhile too'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l except-init -d 'Leave the init out of what is chosen'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s n -l dry-run -d 'Show what would be hit, and send nothing'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s r -l require-handler -d 'Send nothing unless every target has a handler for the signal'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s l -l list -d 'List the signals'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand kill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -l pid -d 'Only the process with this number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -l decode -d 'Say which signals are in a mask, as `/proc/PID/status` shows it' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -s o -l columns -d 'Columns to show, or `help` for what there is; `+` before the first adds to the usual ones' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand signals" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -s s -l signal -d 'This signal, not the recorded one' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -s t -l time -d 'Time until KILL' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l order -d 'Who is told first' -r -f -a "init\t'The init, as the engines do'
all\t'All at once'
leaves\t'Leaves of the process tree, then their parents'"
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l ladder -d 'Steps, each with its time, instead of signal, time and KILL: `QUIT:5s,TERM:10s,KILL`' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l no-kill -d 'Do not KILL what is left; leave with status 124'
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l thaw -d 'Wake a paused container first'
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -s n -l dry-run -d 'Say what would happen, and do nothing'
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand doctor" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand doctor" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand doctor" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand doctor" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s u -l user -d 'As this user, by name or number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s w -l workdir -d 'Begin in this folder, inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s e -l env -d 'Set a variable; without a value, take ours' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l env-file -d 'Set the variables of a file, one a line' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l pid -d 'Beside the process with this number inside, in place of the init' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l ns -d 'Join these namespaces alone: user, mnt, uts, ipc, net, pid, cgroup, time' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l skip -d 'Join all but these; without mnt the command is the host\'s own' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s t -l tty -d 'Make a terminal for it even where stdin or stdout is none'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s T -l no-tty -d 'Make none'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s i -l interactive -d 'Pass stdin on (it always is)'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s d -l detach -d 'Leave it running, and print its PIDs'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l privileged -d 'Keep every capability, and go without the seccomp filter'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l no-cgroup -d 'Stay in our own cgroups'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l strict -d 'Fail where something cannot be carried over'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s u -l user -d 'As this user, by name or number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s w -l workdir -d 'Begin in this folder, inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s e -l env -d 'Set a variable; without a value, take ours' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l env-file -d 'Set the variables of a file, one a line' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l pid -d 'Beside the process with this number inside, in place of the init' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l ns -d 'Join these namespaces alone: user, mnt, uts, ipc, net, pid, cgroup, time' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l skip -d 'Join all but these; without mnt the command is the host\'s own' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s t -l tty -d 'Make a terminal for it even where stdin or stdout is none'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s T -l no-tty -d 'Make none'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s i -l interactive -d 'Pass stdin on (it always is)'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s d -l detach -d 'Leave it running, and print its PIDs'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l privileged -d 'Keep every capability, and go without the seccomp filter'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l no-cgroup -d 'Stay in our own cgroups'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l strict -d 'Fail where something cannot be carried over'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand enter" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l chown -d 'Whom the files are to belong to, by name or number inside' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l pid -d 'As the process with this number inside sees its files, in place of the init' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -s a -l archive -d 'Keep owners, all permission bits and extended attributes'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -s L -l follow-link -d 'Copy what links lead to, in their place'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -s n -l no-clobber -d 'Leave what is there'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l strict -d 'Fail where something cannot be kept'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l sync -d 'Have each file on the disk before it takes its name'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l no-progress -d 'Show no progress'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -s q -l quiet -d 'Say nothing but errors'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand cp" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand inspect" -l pid -d 'Look at this process, by its PID inside, instead of the init' -r
complete -c cinspect -n "__fish_cinspect_using_subcommand inspect" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand inspect" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand inspect" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand inspect" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand completions" -l color -d 'When to colour' -r -f -a "auto\t'Where stdout is a terminal that can, and `NO_COLOR` is not set'
always\t'Always'
never\t'Never'"
complete -c cinspect -n "__fish_cinspect_using_subcommand completions" -l host-root -d 'The host\'s file system, as mounted there: inside a privileged container' -r -F
complete -c cinspect -n "__fish_cinspect_using_subcommand completions" -l json -d 'Print NDJSON: one object a line, with stable names and exact strings'
complete -c cinspect -n "__fish_cinspect_using_subcommand completions" -s v -l verbose -d 'Tell each step of finding the container, on stderr'
complete -c cinspect -n "__fish_cinspect_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "ls" -d 'List the containers on this host, of every engine'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "ps" -d 'Show the process tree of containers, with each process\'s signal masks and handlers'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "signal" -d 'Send a signal to processes of a container: its init, or those that are chosen'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "signals" -d 'Show signal by signal what each process does with it, who blocks it, who waits for it, and what it would do'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "stop" -d 'Stop containers as their engines do, and say as it goes who was told, who left when and who was killed'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "doctor" -d 'Say why a stop would not be graceful, and what helps'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "exec" -d 'Run a command inside a container, or its user\'s shell'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "cp" -d 'Copy files into a container, out of one, or from one to another'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "inspect" -d 'Show one page on a container: what it is, shares, may do, uses and mounts'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "completions" -d 'Print the completion script for a shell'
complete -c cinspect -n "__fish_cinspect_using_subcommand help; and not __fish_seen_subcommand_from ls ps signal signals stop doctor exec cp inspect completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
