# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_evt_lake_global_optspecs
    string join \n q/quiet stats= now= pipeline= check config= prometheus= log-format= color= h/help V/version
end

function __fish_evt_lake_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_evt_lake_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_evt_lake_using_subcommand
    set -l cmd (__fish_evt_lake_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c evt-lake -n "__fish_evt_lake_needs_command" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-lake -n "__fish_evt_lake_needs_command" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -s V -l version -d 'Print version'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -f -a "describe" -d 'Print rows, files, days, snapshots and last epochs of each table'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -f -a "compact" -d 'Join the small files of each closed day to files of 128 MiB'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -f -a "expire" -d 'Remove old snapshots, files that nothing names, and old rows'
complete -c evt-lake -n "__fish_evt_lake_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand describe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l closed-after -d 'Compact days that ended at least DURATION ago' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l now -d 'Count ages from this instant, instead of the clock' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l dry-run -d 'Only print what would be done'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand compact" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l snapshots -d 'Remove snapshots that are older than DURATION, but the present one and those that a branch or tag names' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l orphans-older-than -d 'Remove files that nothing names if they are older than DURATION' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l keep -d 'Remove the rows of days that ended at least DURATION ago [default: all rows stay]' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l now -d 'Count ages from this instant, instead of the clock' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l dry-run -d 'Only print what would be done'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand expire" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand help; and not __fish_seen_subcommand_from describe compact expire help" -f -a "describe" -d 'Print rows, files, days, snapshots and last epochs of each table'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand help; and not __fish_seen_subcommand_from describe compact expire help" -f -a "compact" -d 'Join the small files of each closed day to files of 128 MiB'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand help; and not __fish_seen_subcommand_from describe compact expire help" -f -a "expire" -d 'Remove old snapshots, files that nothing names, and old rows'
complete -c evt-lake -n "__fish_evt_lake_using_subcommand help; and not __fish_seen_subcommand_from describe compact expire help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
