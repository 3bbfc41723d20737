# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_evt_alert_global_optspecs
    string join \n rules= m/metrics= refresh= max-groups= state= once notify= until= last= f/input-format= kind= control delimiter= header= no-header explode= time-year= encoding= field= set= time= time-unit= time-format= time-zone= min-time= max-future= require= plain hash-ids origin= partitions= to= o/output-format= overwrite append dlq= strict report= max-record= max-decompression-ratio= threads= kafka-config= q/quiet stats= now= pipeline= check config= prometheus= log-format= color= since= h/help V/version
end

function __fish_evt_alert_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_evt_alert_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_evt_alert_using_subcommand
    set -l cmd (__fish_evt_alert_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c evt-alert -n "__fish_evt_alert_needs_command" -l rules -d 'Read the rules from a TOML or JSON file, or a table: sqlite:PATH?table=NAME, postgres://HOST/DATABASE?table=NAME' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -s m -l metrics -d 'Read the metrics that rules name from FILE (evt-metrics(5))' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l refresh -d 'Read the rules again every DURATION' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l max-groups -d 'Limit the groups of a rule; rows of further groups are left out and counted' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l state -d 'Keep the state, the positions of the inputs and due notifications in FILE' -r -F
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l notify -d 'Notify the channels that FILE defines' -r -F
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l until -d 'Take only rows before INSTANT' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l since -d 'Take only rows at or after INSTANT, by event_time, window_end or failed_at' -r
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l once -d 'Read the inputs to their end, for cron: the exit status is 1 if an alert fired or still fires; nothing is printed if no alert fired, was resolved or still fires'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l overwrite -d 'Replace output files that exist'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l append -d 'Add rows to output files of text that exist'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -s V -l version -d 'Print version'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -a "test" -d 'Run unit tests of rules: series of rows, and the alerts that fire at instants; exit with status 1 and the differences if one fails'
complete -c evt-alert -n "__fish_evt_alert_needs_command" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt-alert -n "__fish_evt_alert_using_subcommand test" -s m -l metrics -d 'Read the metrics that rules name from FILE (evt-metrics(5))' -r
complete -c evt-alert -n "__fish_evt_alert_using_subcommand test" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-alert -n "__fish_evt_alert_using_subcommand test" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-alert -n "__fish_evt_alert_using_subcommand test" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-alert -n "__fish_evt_alert_using_subcommand test" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-alert -n "__fish_evt_alert_using_subcommand test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-alert -n "__fish_evt_alert_using_subcommand help; and not __fish_seen_subcommand_from test help" -f -a "test" -d 'Run unit tests of rules: series of rows, and the alerts that fire at instants; exit with status 1 and the differences if one fails'
complete -c evt-alert -n "__fish_evt_alert_using_subcommand help; and not __fish_seen_subcommand_from test help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
