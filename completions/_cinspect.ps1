
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'cinspect' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'cinspect'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'cinspect' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help CMD`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help CMD`')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('ls', 'ls', [CompletionResultType]::ParameterValue, 'List the containers on this host, of every engine')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List the containers on this host, of every engine')
            [CompletionResult]::new('ps', 'ps', [CompletionResultType]::ParameterValue, 'Show the process tree of containers, with each process''s signal masks and handlers')
            [CompletionResult]::new('signal', 'signal', [CompletionResultType]::ParameterValue, 'Send a signal to a container''s init, or to the processes that you select')
            [CompletionResult]::new('kill', 'kill', [CompletionResultType]::ParameterValue, 'Send a signal to a container''s init, or to the processes that you select')
            [CompletionResult]::new('signals', 'signals', [CompletionResultType]::ParameterValue, 'Show how each process handles each signal, and what the signal would do')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop containers the way their engine does, reporting which processes were signalled, when each exited and which were killed')
            [CompletionResult]::new('trace', 'trace', [CompletionResultType]::ParameterValue, 'Print signals as they are sent and delivered, with their senders')
            [CompletionResult]::new('doctor', 'doctor', [CompletionResultType]::ParameterValue, 'Say why a stop would not be graceful, and how to fix it')
            [CompletionResult]::new('exec', 'exec', [CompletionResultType]::ParameterValue, 'Run a command in a container, or the shell of its user')
            [CompletionResult]::new('enter', 'enter', [CompletionResultType]::ParameterValue, 'Run a command in a container, or the shell of its user')
            [CompletionResult]::new('cp', 'cp', [CompletionResultType]::ParameterValue, 'Copy files into, out of or between containers')
            [CompletionResult]::new('inspect', 'inspect', [CompletionResultType]::ParameterValue, 'Show one page about a container: identity, stopping, namespaces, security, resources, mounts')
            [CompletionResult]::new('why', 'why', [CompletionResultType]::ParameterValue, 'Say how and why a container ended')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'Print the end of a container''s log, even while its engine hangs')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completion script for a shell')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'cinspect;ls' {
            [CompletionResult]::new('--engine', '--engine', [CompletionResultType]::ParameterName, 'Only containers of this engine: docker, podman, …, bare')
            [CompletionResult]::new('--label', '--label', [CompletionResultType]::ParameterName, 'Only containers with this label; `KEY` alone matches any value')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--columns', '--columns', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Also list containers that are not running, and how they ended')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Also list containers that are not running, and how they ended')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print IDs only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print IDs only')
            [CompletionResult]::new('--no-trunc', '--no-trunc', [CompletionResultType]::ParameterName, 'Do not shorten IDs and images')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help ls`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help ls`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;list' {
            [CompletionResult]::new('--engine', '--engine', [CompletionResultType]::ParameterName, 'Only containers of this engine: docker, podman, …, bare')
            [CompletionResult]::new('--label', '--label', [CompletionResultType]::ParameterName, 'Only containers with this label; `KEY` alone matches any value')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--columns', '--columns', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Also list containers that are not running, and how they ended')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Also list containers that are not running, and how they ended')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print IDs only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print IDs only')
            [CompletionResult]::new('--no-trunc', '--no-trunc', [CompletionResultType]::ParameterName, 'Do not shorten IDs and images')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help ls`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help ls`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;ps' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--columns', '--columns', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--sort', '--sort', [CompletionResultType]::ParameterName, 'Sort by a column, `-COL` in descending order; in tree view, siblings are sorted')
            [CompletionResult]::new('--signal', '--signal', [CompletionResultType]::ParameterName, 'Show the effect of this signal instead of the container''s stop signal')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Refresh every SECS seconds (default: 2), marking added, removed and changed processes')
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Refresh every SECS seconds (default: 2), marking added, removed and changed processes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('--flat', '--flat', [CompletionResultType]::ParameterName, 'List processes without the tree')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'List threads, each with its own masks')
            [CompletionResult]::new('--threads', '--threads', [CompletionResultType]::ParameterName, 'List threads, each with its own masks')
            [CompletionResult]::new('--no-fold', '--no-fold', [CompletionResultType]::ParameterName, 'Show each of equal siblings on a line of its own')
            [CompletionResult]::new('--raw', '--raw', [CompletionResultType]::ParameterName, 'Show signal masks in hexadecimal, as the kernel does')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help ps`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help ps`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;signal' {
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'The signal, as in kill(1)')
            [CompletionResult]::new('--signal', '--signal', [CompletionResultType]::ParameterName, 'The signal, as in kill(1)')
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'The process with this PID in the container')
            [CompletionResult]::new('--host-pid', '--host-pid', [CompletionResultType]::ParameterName, 'The process with this PID on the host')
            [CompletionResult]::new('--tid', '--tid', [CompletionResultType]::ParameterName, 'One thread, by its TID in the container')
            [CompletionResult]::new('--comm', '--comm', [CompletionResultType]::ParameterName, 'Processes with exactly this name')
            [CompletionResult]::new('--match', '--match', [CompletionResultType]::ParameterName, 'Processes whose full command line matches this regular expression')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Processes of this user (name or UID in the container)')
            [CompletionResult]::new('--tree', '--tree', [CompletionResultType]::ParameterName, 'The process with this PID in the container, and all its descendants')
            [CompletionResult]::new('--pgroup', '--pgroup', [CompletionResultType]::ParameterName, 'The processes of this process group (PGID in the container)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Send this value with the signal, as sigqueue(3) does')
            [CompletionResult]::new('--queue', '--queue', [CompletionResultType]::ParameterName, 'Send this value with the signal, as sigqueue(3) does')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Wait until the processes have exited, at most this long')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Send KILL to processes that are still running after this time')
            [CompletionResult]::new('--kill-after', '--kill-after', [CompletionResultType]::ParameterName, 'Send KILL to processes that are still running after this time')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Every process of the container, including those that start meanwhile')
            [CompletionResult]::new('--except-init', '--except-init', [CompletionResultType]::ParameterName, 'Exclude the init from the selected processes')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Show which processes would get the signal, and send nothing')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Show which processes would get the signal, and send nothing')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to')
            [CompletionResult]::new('--require-handler', '--require-handler', [CompletionResultType]::ParameterName, 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'List the signals; with SIG, or a status such as 143, only that one')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'List the signals; with SIG, or a status such as 143, only that one')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help signal`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help signal`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;kill' {
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'The signal, as in kill(1)')
            [CompletionResult]::new('--signal', '--signal', [CompletionResultType]::ParameterName, 'The signal, as in kill(1)')
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'The process with this PID in the container')
            [CompletionResult]::new('--host-pid', '--host-pid', [CompletionResultType]::ParameterName, 'The process with this PID on the host')
            [CompletionResult]::new('--tid', '--tid', [CompletionResultType]::ParameterName, 'One thread, by its TID in the container')
            [CompletionResult]::new('--comm', '--comm', [CompletionResultType]::ParameterName, 'Processes with exactly this name')
            [CompletionResult]::new('--match', '--match', [CompletionResultType]::ParameterName, 'Processes whose full command line matches this regular expression')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Processes of this user (name or UID in the container)')
            [CompletionResult]::new('--tree', '--tree', [CompletionResultType]::ParameterName, 'The process with this PID in the container, and all its descendants')
            [CompletionResult]::new('--pgroup', '--pgroup', [CompletionResultType]::ParameterName, 'The processes of this process group (PGID in the container)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Send this value with the signal, as sigqueue(3) does')
            [CompletionResult]::new('--queue', '--queue', [CompletionResultType]::ParameterName, 'Send this value with the signal, as sigqueue(3) does')
            [CompletionResult]::new('--wait', '--wait', [CompletionResultType]::ParameterName, 'Wait until the processes have exited, at most this long')
            [CompletionResult]::new('-k', '-k', [CompletionResultType]::ParameterName, 'Send KILL to processes that are still running after this time')
            [CompletionResult]::new('--kill-after', '--kill-after', [CompletionResultType]::ParameterName, 'Send KILL to processes that are still running after this time')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Every process of the container, including those that start meanwhile')
            [CompletionResult]::new('--except-init', '--except-init', [CompletionResultType]::ParameterName, 'Exclude the init from the selected processes')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Show which processes would get the signal, and send nothing')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Show which processes would get the signal, and send nothing')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to')
            [CompletionResult]::new('--require-handler', '--require-handler', [CompletionResultType]::ParameterName, 'Send nothing unless every selected process has a handler for the signal, and every process that an init forwards it to')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'List the signals; with SIG, or a status such as 143, only that one')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'List the signals; with SIG, or a status such as 143, only that one')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help signal`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help signal`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;signals' {
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'Only the process with this PID in the container')
            [CompletionResult]::new('--decode', '--decode', [CompletionResultType]::ParameterName, 'List the signals in a mask of `/proc/PID/status`')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--columns', '--columns', [CompletionResultType]::ParameterName, 'Columns to show; `+LIST` adds to the default ones, `help` lists all')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help signals`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help signals`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;stop' {
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Send this signal instead of the recorded one')
            [CompletionResult]::new('--signal', '--signal', [CompletionResultType]::ParameterName, 'Send this signal instead of the recorded one')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'Grace period before KILL: 0 for KILL at once, -1 for no limit')
            [CompletionResult]::new('--time', '--time', [CompletionResultType]::ParameterName, 'Grace period before KILL: 0 for KILL at once, -1 for no limit')
            [CompletionResult]::new('--order', '--order', [CompletionResultType]::ParameterName, 'Order in which processes get the signal')
            [CompletionResult]::new('--schedule', '--schedule', [CompletionResultType]::ParameterName, 'Send these signals in turn, waiting after each: `QUIT:5s,TERM:10s,KILL`')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('--no-kill', '--no-kill', [CompletionResultType]::ParameterName, 'Do not send KILL; exit 124 if processes are still running')
            [CompletionResult]::new('--unpause', '--unpause', [CompletionResultType]::ParameterName, 'Unpause a paused container first')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Show what would happen, and do nothing')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Show what would happen, and do nothing')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help stop`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help stop`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;trace' {
            [CompletionResult]::new('--label', '--label', [CompletionResultType]::ParameterName, 'Every container with this label, also those that start later; `KEY` alone matches any value')
            [CompletionResult]::new('--for', '--for', [CompletionResultType]::ParameterName, 'End after this time')
            [CompletionResult]::new('--count', '--count', [CompletionResultType]::ParameterName, 'End after this many signals')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Every process of the host')
            [CompletionResult]::new('--all', '--all', [CompletionResultType]::ParameterName, 'Every process of the host')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help trace`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help trace`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;doctor' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('--exit-zero', '--exit-zero', [CompletionResultType]::ParameterName, 'Exit 0 even if there is a problem')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help doctor`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help doctor`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;exec' {
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'Run as this user (name or ID as known in the container)')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Run as this user (name or ID as known in the container)')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Working directory')
            [CompletionResult]::new('--workdir', '--workdir', [CompletionResultType]::ParameterName, 'Working directory')
            [CompletionResult]::new('-e', '-e', [CompletionResultType]::ParameterName, 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none')
            [CompletionResult]::new('--env', '--env', [CompletionResultType]::ParameterName, 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none')
            [CompletionResult]::new('--env-file', '--env-file', [CompletionResultType]::ParameterName, 'Set the variables listed in a file, one per line')
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'Join the namespaces of this PID (in the container) instead of PID 1')
            [CompletionResult]::new('--ns', '--ns', [CompletionResultType]::ParameterName, 'Join only these namespaces: user, mnt, uts, ipc, net, pid, cgroup, time')
            [CompletionResult]::new('--skip', '--skip', [CompletionResultType]::ParameterName, 'Join all namespaces except these; with `mnt` skipped, the command is one of the host''s tools')
            [CompletionResult]::new('--tools', '--tools', [CompletionResultType]::ParameterName, 'Run a static program of the host, by default its busybox, in the container: a shell and tools where the image has none')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'Allocate a terminal even if stdin or stdout is not one')
            [CompletionResult]::new('--tty', '--tty', [CompletionResultType]::ParameterName, 'Allocate a terminal even if stdin or stdout is not one')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'Never allocate a terminal')
            [CompletionResult]::new('--no-tty', '--no-tty', [CompletionResultType]::ParameterName, 'Never allocate a terminal')
            [CompletionResult]::new('-i', '-i', [CompletionResultType]::ParameterName, 'Keep stdin open (default)')
            [CompletionResult]::new('--interactive', '--interactive', [CompletionResultType]::ParameterName, 'Keep stdin open (default)')
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'Run in the background and print the PIDs')
            [CompletionResult]::new('--detach', '--detach', [CompletionResultType]::ParameterName, 'Run in the background and print the PIDs')
            [CompletionResult]::new('--privileged', '--privileged', [CompletionResultType]::ParameterName, 'Keep all capabilities; skip seccomp filters and security label')
            [CompletionResult]::new('--no-cgroup', '--no-cgroup', [CompletionResultType]::ParameterName, 'Stay in your own cgroups')
            [CompletionResult]::new('--strict', '--strict', [CompletionResultType]::ParameterName, 'Fail if an attribute cannot be applied')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help exec`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help exec`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;enter' {
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'Run as this user (name or ID as known in the container)')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Run as this user (name or ID as known in the container)')
            [CompletionResult]::new('-w', '-w', [CompletionResultType]::ParameterName, 'Working directory')
            [CompletionResult]::new('--workdir', '--workdir', [CompletionResultType]::ParameterName, 'Working directory')
            [CompletionResult]::new('-e', '-e', [CompletionResultType]::ParameterName, 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none')
            [CompletionResult]::new('--env', '--env', [CompletionResultType]::ParameterName, 'Set an environment variable; without =VALUE, copy yours, or remove it if you have none')
            [CompletionResult]::new('--env-file', '--env-file', [CompletionResultType]::ParameterName, 'Set the variables listed in a file, one per line')
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'Join the namespaces of this PID (in the container) instead of PID 1')
            [CompletionResult]::new('--ns', '--ns', [CompletionResultType]::ParameterName, 'Join only these namespaces: user, mnt, uts, ipc, net, pid, cgroup, time')
            [CompletionResult]::new('--skip', '--skip', [CompletionResultType]::ParameterName, 'Join all namespaces except these; with `mnt` skipped, the command is one of the host''s tools')
            [CompletionResult]::new('--tools', '--tools', [CompletionResultType]::ParameterName, 'Run a static program of the host, by default its busybox, in the container: a shell and tools where the image has none')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'Allocate a terminal even if stdin or stdout is not one')
            [CompletionResult]::new('--tty', '--tty', [CompletionResultType]::ParameterName, 'Allocate a terminal even if stdin or stdout is not one')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'Never allocate a terminal')
            [CompletionResult]::new('--no-tty', '--no-tty', [CompletionResultType]::ParameterName, 'Never allocate a terminal')
            [CompletionResult]::new('-i', '-i', [CompletionResultType]::ParameterName, 'Keep stdin open (default)')
            [CompletionResult]::new('--interactive', '--interactive', [CompletionResultType]::ParameterName, 'Keep stdin open (default)')
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'Run in the background and print the PIDs')
            [CompletionResult]::new('--detach', '--detach', [CompletionResultType]::ParameterName, 'Run in the background and print the PIDs')
            [CompletionResult]::new('--privileged', '--privileged', [CompletionResultType]::ParameterName, 'Keep all capabilities; skip seccomp filters and security label')
            [CompletionResult]::new('--no-cgroup', '--no-cgroup', [CompletionResultType]::ParameterName, 'Stay in your own cgroups')
            [CompletionResult]::new('--strict', '--strict', [CompletionResultType]::ParameterName, 'Fail if an attribute cannot be applied')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help exec`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help exec`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;cp' {
            [CompletionResult]::new('--chown', '--chown', [CompletionResultType]::ParameterName, 'Owner of the copied files (name or ID as known in the container)')
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'Use the mount namespace of this PID (in the container) instead of PID 1''s')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Keep owners, all permission bits, times of access, extended attributes, ACLs and capabilities')
            [CompletionResult]::new('--archive', '--archive', [CompletionResultType]::ParameterName, 'Keep owners, all permission bits, times of access, extended attributes, ACLs and capabilities')
            [CompletionResult]::new('-L', '-L ', [CompletionResultType]::ParameterName, 'Copy the files that symlinks point to instead of the symlinks')
            [CompletionResult]::new('--follow-link', '--follow-link', [CompletionResultType]::ParameterName, 'Copy the files that symlinks point to instead of the symlinks')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Directories are copied with their contents and files are replaced, with it or without')
            [CompletionResult]::new('--recursive', '--recursive', [CompletionResultType]::ParameterName, 'Directories are copied with their contents and files are replaced, with it or without')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Do not overwrite existing files')
            [CompletionResult]::new('--no-clobber', '--no-clobber', [CompletionResultType]::ParameterName, 'Do not overwrite existing files')
            [CompletionResult]::new('--strict', '--strict', [CompletionResultType]::ParameterName, 'Fail if a file is skipped or changes, or an attribute cannot be kept')
            [CompletionResult]::new('--sync', '--sync', [CompletionResultType]::ParameterName, 'fsync each file before renaming it into place')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Do not show progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print errors only')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print errors only')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help cp`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help cp`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;inspect' {
            [CompletionResult]::new('--pid', '--pid', [CompletionResultType]::ParameterName, 'Inspect this PID (in the container) instead of PID 1')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help inspect`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help inspect`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;why' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help why`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help why`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;logs' {
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Print this many lines, or `all`')
            [CompletionResult]::new('--lines', '--lines', [CompletionResultType]::ParameterName, 'Print this many lines, or `all`')
            [CompletionResult]::new('--tail', '--tail', [CompletionResultType]::ParameterName, 'Print this many lines, or `all`')
            [CompletionResult]::new('--since', '--since', [CompletionResultType]::ParameterName, 'Print lines from this time on: `10m` ago, or as `2026-11-26T02:37:17Z`; without a zone, local time')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'Follow the log until the container ends')
            [CompletionResult]::new('--follow', '--follow', [CompletionResultType]::ParameterName, 'Follow the log until the container ends')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'Print the time of each line')
            [CompletionResult]::new('--timestamps', '--timestamps', [CompletionResultType]::ParameterName, 'Print the time of each line')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help logs`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help logs`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;completions' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always, never')
            [CompletionResult]::new('--host-root', '--host-root', [CompletionResultType]::ParameterName, 'Read the host whose root file system is mounted at DIR, from a container in its PID namespace')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help completions`')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help; more: `cinspect help completions`')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print NDJSON: one object per line, with stable names and exact strings')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Show how each container was found (on stderr), and further details')
            break
        }
        'cinspect;help' {
            [CompletionResult]::new('ls', 'ls', [CompletionResultType]::ParameterValue, 'List the containers on this host, of every engine')
            [CompletionResult]::new('ps', 'ps', [CompletionResultType]::ParameterValue, 'Show the process tree of containers, with each process''s signal masks and handlers')
            [CompletionResult]::new('signal', 'signal', [CompletionResultType]::ParameterValue, 'Send a signal to a container''s init, or to the processes that you select')
            [CompletionResult]::new('signals', 'signals', [CompletionResultType]::ParameterValue, 'Show how each process handles each signal, and what the signal would do')
            [CompletionResult]::new('stop', 'stop', [CompletionResultType]::ParameterValue, 'Stop containers the way their engine does, reporting which processes were signalled, when each exited and which were killed')
            [CompletionResult]::new('trace', 'trace', [CompletionResultType]::ParameterValue, 'Print signals as they are sent and delivered, with their senders')
            [CompletionResult]::new('doctor', 'doctor', [CompletionResultType]::ParameterValue, 'Say why a stop would not be graceful, and how to fix it')
            [CompletionResult]::new('exec', 'exec', [CompletionResultType]::ParameterValue, 'Run a command in a container, or the shell of its user')
            [CompletionResult]::new('cp', 'cp', [CompletionResultType]::ParameterValue, 'Copy files into, out of or between containers')
            [CompletionResult]::new('inspect', 'inspect', [CompletionResultType]::ParameterValue, 'Show one page about a container: identity, stopping, namespaces, security, resources, mounts')
            [CompletionResult]::new('why', 'why', [CompletionResultType]::ParameterValue, 'Say how and why a container ended')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'Print the end of a container''s log, even while its engine hangs')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completion script for a shell')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'cinspect;help;ls' {
            break
        }
        'cinspect;help;ps' {
            break
        }
        'cinspect;help;signal' {
            break
        }
        'cinspect;help;signals' {
            break
        }
        'cinspect;help;stop' {
            break
        }
        'cinspect;help;trace' {
            break
        }
        'cinspect;help;doctor' {
            break
        }
        'cinspect;help;exec' {
            break
        }
        'cinspect;help;cp' {
            break
        }
        'cinspect;help;inspect' {
            break
        }
        'cinspect;help;why' {
            break
        }
        'cinspect;help;logs' {
            break
        }
        'cinspect;help;completions' {
            break
        }
        'cinspect;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
