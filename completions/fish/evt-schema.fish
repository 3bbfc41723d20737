# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_evt_schema_global_optspecs
    string join \n q/quiet stats= now= pipeline= check config= prometheus= log-format= color= h/help V/version
end

function __fish_evt_schema_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_evt_schema_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_evt_schema_using_subcommand
    set -l cmd (__fish_evt_schema_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c evt-schema -n "__fish_evt_schema_needs_command" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_needs_command" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -s V -l version -d 'Print version'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "check" -d 'Check whether a schema is compatible with earlier ones; exit with status 1 if not'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "register" -d 'Register a schema under a subject if it is compatible; exit with status 1 if not'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "show" -d 'Print a schema'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l against -d 'Compare with these schemas, oldest first' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l subject -d 'Compare with all versions of this subject' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l schemas -d 'Find the subject in this directory or registry of schemas' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l level -d 'Check at this compatibility level: NONE, BACKWARD, FORWARD, FULL, or one of the last three with _TRANSITIVE [default: the level of the subject, else BACKWARD]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l subject -d 'Register under this subject: the event type, unless evt-validate --subject names another field' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l schemas -d 'Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l schemas -d 'Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l number -d 'Print this version [default: the latest]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l schemas -d 'Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "check" -d 'Check whether a schema is compatible with earlier ones; exit with status 1 if not'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "register" -d 'Register a schema under a subject if it is compatible; exit with status 1 if not'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "show" -d 'Print a schema'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
