# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_evt_schema_global_optspecs
    string join \n q/quiet stats= strict report= now= pipeline= max-record= max-ratio= kafka-config= check config= prometheus= log-format= color= h/help V/version
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

complete -c evt-schema -n "__fish_evt_schema_needs_command" -l stats -d 'Write the summary as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l now -d 'The clock, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l max-record -d 'The longest record that is read' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_needs_command" -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l strict -d 'Exit 1 if any record was dead'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -s V -l version -d 'Print version'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "check" -d 'Say whether a schema may follow others; exit 1 if not'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "register" -d 'Add a schema to a subject if it is compatible; exit 1 if not'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "show" -d 'Print a schema'
complete -c evt-schema -n "__fish_evt_schema_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l against -d 'Schemas it follows, oldest first; none: always compatible' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l subject -d 'The same of all versions of a subject' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l schemas -d 'Where the subject is' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l level -d 'How strictly they must agree: NONE, BACKWARD, FORWARD, FULL, and each of the last three with _TRANSITIVE; the subject\'s level, or BACKWARD' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l stats -d 'Write the summary as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l now -d 'The clock, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l max-record -d 'The longest record that is read' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l strict -d 'Exit 1 if any record was dead'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l subject -d 'The subject: the event type, unless --subject of evt-validate says otherwise' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l schemas -d 'Directory of schemas, or a registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l stats -d 'Write the summary as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l now -d 'The clock, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l max-record -d 'The longest record that is read' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l strict -d 'Exit 1 if any record was dead'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand register" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l schemas -d 'Directory of schemas, or a registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l stats -d 'Write the summary as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l now -d 'The clock, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l max-record -d 'The longest record that is read' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l strict -d 'Exit 1 if any record was dead'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l number -d 'Its version; the latest without it' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l schemas -d 'Directory of schemas, or a registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l stats -d 'Write the summary as JSON' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l now -d 'The clock, for repeatable output' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l max-record -d 'The longest record that is read' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l strict -d 'Exit 1 if any record was dead'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "check" -d 'Say whether a schema may follow others; exit 1 if not'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "register" -d 'Add a schema to a subject if it is compatible; exit 1 if not'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "show" -d 'Print a schema'
complete -c evt-schema -n "__fish_evt_schema_using_subcommand help; and not __fish_seen_subcommand_from check register list show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
