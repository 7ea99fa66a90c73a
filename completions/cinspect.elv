
use builtin;
use str;

set edit:completion:arg-completer[cinspect] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'cinspect'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'cinspect'= {
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
            cand -h 'Print help; more: `cinspect help CMD`'
            cand --help 'Print help; more: `cinspect help CMD`'
            cand -V 'Print version'
            cand --version 'Print version'
            cand ls 'List the containers on this host, of every engine'
            cand list 'List the containers on this host, of every engine'
            cand ps 'Show the process tree of containers, with each process''s signal masks and handlers'
            cand signal 'Send a signal to a container''s init, or to the processes that you select'
            cand kill 'Send a signal to a container''s init, or to the processes that you select'
            cand signals 'Show how each process handles each signal, and what the signal would do'
            cand stop 'Stop containers the way their engine does, reporting which processes were signalled, when each exited and which were killed'
            cand trace 'Print signals as they are sent and delivered, with their senders'
            cand doctor 'Say why a stop would not be graceful, and how to fix it'
            cand exec 'Run a command in a container, or the shell of its user'
            cand enter 'Run a command in a container, or the shell of its user'
            cand cp 'Copy files into, out of or between containers'
            cand inspect 'Show one page about a container: identity, stopping, namespaces, security, resources, mounts'
            cand why 'Say how and why a container ended'
            cand logs 'Print the end of a container''s log, even while its engine hangs'
            cand completions 'Print the completion script for a shell'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'cinspect;ls'= {
            cand --engine 'Only containers of this engine: docker, podman, …, bare'
            cand --label 'Only containers with this label; `KEY` alone matches any value'
            cand -o 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --columns 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -a 'Also list containers that are not running, and how they ended'
            cand --all 'Also list containers that are not running, and how they ended'
            cand -q 'Print IDs only'
            cand --quiet 'Print IDs only'
            cand --no-trunc 'Do not shorten IDs and images'
            cand -h 'Print help; more: `cinspect help ls`'
            cand --help 'Print help; more: `cinspect help ls`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;list'= {
            cand --engine 'Only containers of this engine: docker, podman, …, bare'
            cand --label 'Only containers with this label; `KEY` alone matches any value'
            cand -o 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --columns 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -a 'Also list containers that are not running, and how they ended'
            cand --all 'Also list containers that are not running, and how they ended'
            cand -q 'Print IDs only'
            cand --quiet 'Print IDs only'
            cand --no-trunc 'Do not shorten IDs and images'
            cand -h 'Print help; more: `cinspect help ls`'
            cand --help 'Print help; more: `cinspect help ls`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;ps'= {
            cand -o 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --columns 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --sort 'Sort by a column, `-COL` in descending order; in tree view, siblings are sorted'
            cand --signal 'Show the effect of this signal instead of the container''s stop signal'
            cand -w 'Refresh every SECS seconds (default: 2), marking added, removed and changed processes'
            cand --watch 'Refresh every SECS seconds (default: 2), marking added, removed and changed processes'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand --flat 'List processes without the tree'
            cand -T 'List threads, each with its own masks'
            cand --threads 'List threads, each with its own masks'
            cand --no-fold 'Show each of equal siblings on a line of its own'
            cand --raw 'Show signal masks in hexadecimal, as the kernel does'
            cand -h 'Print help; more: `cinspect help ps`'
            cand --help 'Print help; more: `cinspect help ps`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;signal'= {
            cand -s 'The signal, as in kill(1)'
            cand --signal 'The signal, as in kill(1)'
            cand --pid 'The process with this PID in the container'
            cand --host-pid 'The process with this PID on the host'
            cand --tid 'One thread, by its TID in the container'
            cand --comm 'Processes with exactly this name'
            cand --match 'Processes whose full command line matches this regular expression'
            cand --user 'Processes of this user (name or UID in the container)'
            cand --tree 'The process with this PID in the container, and all its descendants'
            cand --pgroup 'The processes of this process group (PGID in the container)'
            cand -q 'Send this value with the signal, as sigqueue(3) does'
            cand --queue 'Send this value with the signal, as sigqueue(3) does'
            cand --wait 'Wait until the processes have exited, at most this long'
            cand -k 'Send KILL to processes that are still running after this time'
            cand --kill-after 'Send KILL to processes that are still running after this time'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand --all 'Every process of the container, including those that start meanwhile'
            cand --except-init 'Exclude the init from the selected processes'
            cand -n 'Show which processes would get the signal, and send nothing'
            cand --dry-run 'Show which processes would get the signal, and send nothing'
            cand -r 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to'
            cand --require-handler 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to'
            cand -l 'List the signals; with SIG, or a status such as 143, only that one'
            cand --list 'List the signals; with SIG, or a status such as 143, only that one'
            cand -h 'Print help; more: `cinspect help signal`'
            cand --help 'Print help; more: `cinspect help signal`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;kill'= {
            cand -s 'The signal, as in kill(1)'
            cand --signal 'The signal, as in kill(1)'
            cand --pid 'The process with this PID in the container'
            cand --host-pid 'The process with this PID on the host'
            cand --tid 'One thread, by its TID in the container'
            cand --comm 'Processes with exactly this name'
            cand --match 'Processes whose full command line matches this regular expression'
            cand --user 'Processes of this user (name or UID in the container)'
            cand --tree 'The process with this PID in the container, and all its descendants'
            cand --pgroup 'The processes of this process group (PGID in the container)'
            cand -q 'Send this value with the signal, as sigqueue(3) does'
            cand --queue 'Send this value with the signal, as sigqueue(3) does'
            cand --wait 'Wait until the processes have exited, at most this long'
            cand -k 'Send KILL to processes that are still running after this time'
            cand --kill-after 'Send KILL to processes that are still running after this time'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand --all 'Every process of the container, including those that start meanwhile'
            cand --except-init 'Exclude the init from the selected processes'
            cand -n 'Show which processes would get the signal, and send nothing'
            cand --dry-run 'Show which processes would get the signal, and send nothing'
            cand -r 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to'
            cand --require-handler 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to'
            cand -l 'List the signals; with SIG, or a status such as 143, only that one'
            cand --list 'List the signals; with SIG, or a status such as 143, only that one'
            cand -h 'Print help; more: `cinspect help signal`'
            cand --help 'Print help; more: `cinspect help signal`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;signals'= {
            cand --pid 'Only the process with this PID in the container'
            cand --decode 'List the signals in a mask of `/proc/PID/status`'
            cand -o 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --columns 'Columns to show; `+LIST` adds to the default ones, `help` lists all'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -h 'Print help; more: `cinspect help signals`'
            cand --help 'Print help; more: `cinspect help signals`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;stop'= {
            cand -s 'Send this signal instead of the recorded one'
            cand --signal 'Send this signal instead of the recorded one'
            cand -t 'Grace period before KILL: 0 for KILL at once, -1 for no limit'
            cand --time 'Grace period before KILL: 0 for KILL at once, -1 for no limit'
            cand --order 'Order in which processes get the signal'
            cand --schedule 'Send these signals in turn, waiting after each: `QUIT:5s,TERM:10s,KILL`'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand --no-kill 'Do not send KILL; exit 124 if processes are still running'
            cand --unpause 'Unpause a paused container first'
            cand -n 'Show what would happen, and do nothing'
            cand --dry-run 'Show what would happen, and do nothing'
            cand -h 'Print help; more: `cinspect help stop`'
            cand --help 'Print help; more: `cinspect help stop`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;trace'= {
            cand --label 'Every container with this label, also those that start later; `KEY` alone matches any value'
            cand --for 'End after this time'
            cand --count 'End after this many signals'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -a 'Every process of the host'
            cand --all 'Every process of the host'
            cand -h 'Print help; more: `cinspect help trace`'
            cand --help 'Print help; more: `cinspect help trace`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;doctor'= {
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand --exit-zero 'Exit 0 even if there is a problem'
            cand -h 'Print help; more: `cinspect help doctor`'
            cand --help 'Print help; more: `cinspect help doctor`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;exec'= {
            cand -u 'Run as this user (name or ID as known in the container)'
            cand --user 'Run as this user (name or ID as known in the container)'
            cand -w 'Working directory'
            cand --workdir 'Working directory'
            cand -e 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none'
            cand --env 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none'
            cand --env-file 'Set the variables listed in a file, one per line'
            cand --pid 'Join the namespaces of this PID (in the container) instead of PID 1'
            cand --ns 'Join only these namespaces: user, mnt, uts, ipc, net, pid, cgroup, time'
            cand --skip 'Join all namespaces except these; with `mnt` skipped, the command is one of the host''s tools'
            cand --tools 'Run a static program of the host, by default its busybox, in the container: a shell and tools where the image has none'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -t 'Allocate a terminal even if stdin or stdout is not one'
            cand --tty 'Allocate a terminal even if stdin or stdout is not one'
            cand -T 'Never allocate a terminal'
            cand --no-tty 'Never allocate a terminal'
            cand -i 'Keep stdin open (default)'
            cand --interactive 'Keep stdin open (default)'
            cand -d 'Run in the background and print the PIDs'
            cand --detach 'Run in the background and print the PIDs'
            cand --privileged 'Keep all capabilities; skip seccomp filters and security label'
            cand --no-cgroup 'Stay in your own cgroups'
            cand --strict 'Fail if an attribute cannot be applied'
            cand -h 'Print help; more: `cinspect help exec`'
            cand --help 'Print help; more: `cinspect help exec`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;enter'= {
            cand -u 'Run as this user (name or ID as known in the container)'
            cand --user 'Run as this user (name or ID as known in the container)'
            cand -w 'Working directory'
            cand --workdir 'Working directory'
            cand -e 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none'
            cand --env 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none'
            cand --env-file 'Set the variables listed in a file, one per line'
            cand --pid 'Join the namespaces of this PID (in the container) instead of PID 1'
            cand --ns 'Join only these namespaces: user, mnt, uts, ipc, net, pid, cgroup, time'
            cand --skip 'Join all namespaces except these; with `mnt` skipped, the command is one of the host''s tools'
            cand --tools 'Run a static program of the host, by default its busybox, in the container: a shell and tools where the image has none'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -t 'Allocate a terminal even if stdin or stdout is not one'
            cand --tty 'Allocate a terminal even if stdin or stdout is not one'
            cand -T 'Never allocate a terminal'
            cand --no-tty 'Never allocate a terminal'
            cand -i 'Keep stdin open (default)'
            cand --interactive 'Keep stdin open (default)'
            cand -d 'Run in the background and print the PIDs'
            cand --detach 'Run in the background and print the PIDs'
            cand --privileged 'Keep all capabilities; skip seccomp filters and security label'
            cand --no-cgroup 'Stay in your own cgroups'
            cand --strict 'Fail if an attribute cannot be applied'
            cand -h 'Print help; more: `cinspect help exec`'
            cand --help 'Print help; more: `cinspect help exec`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;cp'= {
            cand --chown 'Owner of the copied files (name or ID as known in the container)'
            cand --pid 'Use the mount namespace of this PID (in the container) instead of PID 1''s'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -a 'Keep owners, all permission bits, times of access, extended attributes, ACLs and capabilities'
            cand --archive 'Keep owners, all permission bits, times of access, extended attributes, ACLs and capabilities'
            cand -L 'Copy the files that symlinks point to instead of the symlinks'
            cand --follow-link 'Copy the files that symlinks point to instead of the symlinks'
            cand -r 'Directories are copied with their contents and files are replaced, with it or without'
            cand --recursive 'Directories are copied with their contents and files are replaced, with it or without'
            cand -n 'Do not overwrite existing files'
            cand --no-clobber 'Do not overwrite existing files'
            cand --strict 'Fail if a file is skipped or changes, or an attribute cannot be kept'
            cand --sync 'fsync each file before renaming it into place'
            cand --no-progress 'Do not show progress'
            cand -q 'Print errors only'
            cand --quiet 'Print errors only'
            cand -h 'Print help; more: `cinspect help cp`'
            cand --help 'Print help; more: `cinspect help cp`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;inspect'= {
            cand --pid 'Inspect this PID (in the container) instead of PID 1'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -h 'Print help; more: `cinspect help inspect`'
            cand --help 'Print help; more: `cinspect help inspect`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;why'= {
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -h 'Print help; more: `cinspect help why`'
            cand --help 'Print help; more: `cinspect help why`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;logs'= {
            cand -n 'Print this many lines, or `all`'
            cand --lines 'Print this many lines, or `all`'
            cand --tail 'Print this many lines, or `all`'
            cand --since 'Print lines from this time on: `10m` ago, or as `2026-11-26T02:37:17Z`; without a zone, local time'
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -f 'Follow the log until the container ends'
            cand --follow 'Follow the log until the container ends'
            cand -t 'Print the time of each line'
            cand --timestamps 'Print the time of each line'
            cand -h 'Print help; more: `cinspect help logs`'
            cand --help 'Print help; more: `cinspect help logs`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;completions'= {
            cand --color 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never'
            cand --host-root 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace'
            cand -h 'Print help; more: `cinspect help completions`'
            cand --help 'Print help; more: `cinspect help completions`'
            cand --json 'Print NDJSON: one object per line, with stable names and exact strings'
            cand -v 'Show how each container was found (on stderr), and further details'
            cand --verbose 'Show how each container was found (on stderr), and further details'
        }
        &'cinspect;help'= {
            cand ls 'List the containers on this host, of every engine'
            cand ps 'Show the process tree of containers, with each process''s signal masks and handlers'
            cand signal 'Send a signal to a container''s init, or to the processes that you select'
            cand signals 'Show how each process handles each signal, and what the signal would do'
            cand stop 'Stop containers the way their engine does, reporting which processes were signalled, when each exited and which were killed'
            cand trace 'Print signals as they are sent and delivered, with their senders'
            cand doctor 'Say why a stop would not be graceful, and how to fix it'
            cand exec 'Run a command in a container, or the shell of its user'
            cand cp 'Copy files into, out of or between containers'
            cand inspect 'Show one page about a container: identity, stopping, namespaces, security, resources, mounts'
            cand why 'Say how and why a container ended'
            cand logs 'Print the end of a container''s log, even while its engine hangs'
            cand completions 'Print the completion script for a shell'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'cinspect;help;ls'= {
        }
        &'cinspect;help;ps'= {
        }
        &'cinspect;help;signal'= {
        }
        &'cinspect;help;signals'= {
        }
        &'cinspect;help;stop'= {
        }
        &'cinspect;help;trace'= {
        }
        &'cinspect;help;doctor'= {
        }
        &'cinspect;help;exec'= {
        }
        &'cinspect;help;cp'= {
        }
        &'cinspect;help;inspect'= {
        }
        &'cinspect;help;why'= {
        }
        &'cinspect;help;logs'= {
        }
        &'cinspect;help;completions'= {
        }
        &'cinspect;help;help'= {
        }
    ]
    $completions[$command]
}
