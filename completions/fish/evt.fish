# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_evt_global_optspecs
    string join \n h/help
end

function __fish_evt_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_evt_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_evt_using_subcommand
    set -l cmd (__fish_evt_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c evt -n "__fish_evt_needs_command" -s h -l help -d 'Print help'
complete -c evt -n "__fish_evt_needs_command" -f -a "ingest" -d 'Turn raw records into events'
complete -c evt -n "__fish_evt_needs_command" -f -a "validate" -d 'Check events against their schemas and drop duplicates'
complete -c evt -n "__fish_evt_needs_command" -f -a "window" -d 'Aggregate events over event-time windows'
complete -c evt -n "__fish_evt_needs_command" -f -a "sink" -d 'Write rows to stores and files'
complete -c evt -n "__fish_evt_needs_command" -f -a "alert" -d 'Fire alerts by rules over events, and notify people'
complete -c evt -n "__fish_evt_needs_command" -f -a "backfill" -d 'Correct stored windows from raw events'
complete -c evt -n "__fish_evt_needs_command" -f -a "replay" -d 'Repair dead letters and replay each of them once'
complete -c evt -n "__fish_evt_needs_command" -f -a "view" -d 'Show, filter and convert the rows of any stream, file or store'
complete -c evt -n "__fish_evt_needs_command" -f -a "schema" -d 'Check, register, list and show event schemas'
complete -c evt -n "__fish_evt_needs_command" -f -a "reconcile" -d 'Prove that every record of A is in B or in a side output'
complete -c evt -n "__fish_evt_needs_command" -f -a "gen" -d 'Generate events from a seed, as JSON lines'
complete -c evt -n "__fish_evt_needs_command" -f -a "pipe" -d 'Run the stages of a pipeline in one process'
complete -c evt -n "__fish_evt_needs_command" -f -a "flink" -d 'Write a job of Apache Flink that computes metrics with the rows of evt-window'
complete -c evt -n "__fish_evt_needs_command" -f -a "lake" -d 'Describe, compact and clean tables of Iceberg'
complete -c evt -n "__fish_evt_needs_command" -f -a "serve" -d 'Answer dashboards and Grafana from stores of metrics'
complete -c evt -n "__fish_evt_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l where -d 'Keep only events for which EXPR is true' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l let -d 'Compute property NAME of each event; later ones and --where may read it (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l tokens -d 'Accept only requests with a token from FILE, which is reloaded on SIGHUP' -r -F
complete -c evt -n "__fish_evt_using_subcommand ingest" -l tls-cert -d 'Read the certificate chain for https:// from a PEM file' -r -F
complete -c evt -n "__fish_evt_using_subcommand ingest" -l tls-key -d 'Read the private key of the certificate from a PEM file' -r -F
complete -c evt -n "__fish_evt_using_subcommand ingest" -l max-connections -d 'Limit the number of open connections' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l idle-timeout -d 'Close connections that are idle this long between requests' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l head-timeout -d 'Limit the time to receive the head of a request; for the first one it begins with the connection' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l request-timeout -d 'Limit the time to receive a request body, and then the time to store it' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l rate -d 'Limit events per second over all tokens' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l schemas -d 'Validate events against this directory or registry of schemas before answering' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l subject -d 'Take the subject from a column or path, or use TEXT for all events (=TEXT)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l max-body -d 'Limit the size of a request body, compressed and decompressed' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l max-pending -d 'Limit the memory of all request bodies being processed' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l spool -d 'Store requests in DIR and acknowledge them once they are on disk' -r -F
complete -c evt -n "__fish_evt_using_subcommand ingest" -l spool-max -d 'Limit the size of the spool [default: 4GiB]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l dedup -d 'Treat an event whose event_id arrives again within this time as a duplicate' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l ack -d 'Choose when to acknowledge events without a spool [default: output]' -r -f -a "output\t'When the outputs have stored it'
memory\t'When it is in memory; a crash loses it'"
complete -c evt -n "__fish_evt_using_subcommand ingest" -l checkpoint -d 'Keep state and positions in a directory or a bucket of S3, and write each row once, whatever stops the run (evt-checkpoint(5))' -r -F
complete -c evt -n "__fish_evt_using_subcommand ingest" -l checkpoint-every -d 'End an epoch, whose rows become visible together, every DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l keep-epochs -d 'Keep the last N complete epochs' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l restore -d 'Continue from the K-th epoch before the last one, such as n-1 if the last one is damaged; outputs without keys get rows twice' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l ends -d 'Expect N last stages, because tee(1) splits the pipe' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l until -d 'Take only rows before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand ingest" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand ingest" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand ingest" -l follow -d 'Keep reading as files grow, through rotation and truncation'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l keep-raw -d 'Add the raw record to each event, as column raw'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l anonymous -d 'Accept requests without a token'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l log-requests -d 'Log one line per request'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l no-extra-fields -d 'Reject properties that the schema does not define'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand ingest" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand ingest" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand ingest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand ingest" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand validate" -l schemas -d 'Validate against this directory or registry of schemas; without it only the envelope is checked' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l subject -d 'Take the subject from a column or path, or use TEXT for all events (=TEXT)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l dedup -d 'Drop an event whose event_id occurred in its partition within this much stream time' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l duplicates -d 'Write the events that --dedup drops to URI, so that evt-reconcile --plus can account for them' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l memory -d 'Keep about SIZE of ids in memory, at least 8MiB, and the rest in files, of the checkpoint or in TMPDIR [default: 128MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l until -d 'Take only rows before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l branch -d 'Name the branch behind tee(1) that begins with this stage, in the checkpoint of the pipe (evt-checkpoint(5))' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand validate" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand validate" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand validate" -l no-extra-fields -d 'Reject properties that the schema does not define'
complete -c evt -n "__fish_evt_using_subcommand validate" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand validate" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand validate" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand validate" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand validate" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand validate" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand validate" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand validate" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand validate" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand validate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand validate" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand window" -s m -l metrics -d 'Read the metrics to compute from FILE (evt-metrics(5))' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l agg -d 'Compute the aggregate EXPR (repeatable) [default: count(*)]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l by -d 'Group by these columns, property paths and named expressions (comma-separated, repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l where -d 'Aggregate only events for which EXPR is true' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l size -d 'Set the length of a window: a duration, a calendar month, quarter or year, or all, which fires at the end of the input' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l window-zone -d 'Use the calendar of this IANA time zone for --size 1d, 1w (from Monday), 1mo, 1q or 1y [default: UTC; no calendar for 1d, 1w]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l slide -d 'Start a window every DURATION [default: --size, tumbling windows]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l gap -d 'Use session windows that end after DURATION without an event of their key' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l lateness -d 'Accept events until the watermark is this far past the end of a window [default: 0s]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l align -d 'Shift the start of all windows by DURATION, which may be negative' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l out-of-orderness -d 'Allow events this far behind the stream time of their partition; with all, windows fire only at the end [default: all if every input ends, else 30s]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l emit -d 'Emit a pane whenever a window fires, or one final row when its state is dropped [default: final if all outputs are CSV, TSV or tables, else panes]' -r -f -a "panes\t''
final\t''"
complete -c evt -n "__fish_evt_using_subcommand window" -l at-end -d 'Fire or hold open windows at the end [default: fire at the end of the input, hold after a signal and with --checkpoint]' -r -f -a "fire\t'All open windows fire'
hold\t'Only those fire that are before the watermark; partitions of topics do not end at end='"
complete -c evt -n "__fish_evt_using_subcommand window" -l idle-after -d 'Exclude a partition from the watermark once it is idle this long; results then depend on timing' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l new-partitions -d 'Accept partitions that appear after windows have closed, as with --checkpoint; their rows may be late, and results depend on timing' -r -f -a "late\t''"
complete -c evt -n "__fish_evt_using_subcommand window" -l top -d 'Write only the rows of the N keys of each window with the greatest values; implies --emit final' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l of -d 'Rank the keys by this metric [default: the first metric of those with the same dimensions and windows]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l late -d 'Write late events to URI; without it they are counted and lost, and the exit status is 1' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l memory -d 'Keep about SIZE of state in memory, at least 8MiB, and the rest in files, of the checkpoint or in TMPDIR [default: 1GiB, at most half of the limit of the control group]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l checkpoint -d 'Keep state and positions in a directory or a bucket of S3, and write each row once, whatever stops the run (evt-checkpoint(5))' -r -F
complete -c evt -n "__fish_evt_using_subcommand window" -l checkpoint-every -d 'End an epoch, whose rows become visible together, every DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l keep-epochs -d 'Keep the last N complete epochs' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l restore -d 'Continue from the K-th epoch before the last one, such as n-1 if the last one is damaged; outputs without keys get rows twice' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l ends -d 'Expect N last stages, because tee(1) splits the pipe' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l branch -d 'Name the branch behind tee(1) that begins with this stage, in the checkpoint of the pipe (evt-checkpoint(5))' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l until -d 'Take only rows before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand window" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand window" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand window" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand window" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand window" -l wide -d 'Write the metrics of a window and key side by side in one row, in CSV unless -o or a name says otherwise; implies --emit final'
complete -c evt -n "__fish_evt_using_subcommand window" -l late-partial -d 'Write events that only some of their windows counted to --late, too'
complete -c evt -n "__fish_evt_using_subcommand window" -l allow-partition-subset -d 'Allow reading a subset of the partitions of a topic (?partitions=); no key may have rows in two partitions'
complete -c evt -n "__fish_evt_using_subcommand window" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand window" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand window" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand window" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand window" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand window" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand window" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand window" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand window" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand window" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand window" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand sink" -l ttl -d 'Expire rows after this time in stores that support it (redis); ?ttl= in a URI overrides it' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l until -d 'Take only rows before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l branch -d 'Name the branch behind tee(1) that begins with this stage, in the checkpoint of the pipe (evt-checkpoint(5))' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand sink" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand sink" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand sink" -l list -d 'List the stores and exit'
complete -c evt -n "__fish_evt_using_subcommand sink" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand sink" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand sink" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand sink" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand sink" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand sink" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand sink" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand sink" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand sink" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand sink" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand sink" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l rules -d 'Read the rules from a TOML or JSON file, or a table: sqlite:PATH?table=NAME, postgres://HOST/DATABASE?table=NAME' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s m -l metrics -d 'Read the metrics that rules name from FILE (evt-metrics(5))' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l refresh -d 'Read the rules again every DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l max-groups -d 'Limit the groups of a rule; rows of further groups are left out and counted' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l state -d 'Keep the state, the positions of the inputs and due notifications in FILE' -r -F
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l notify -d 'Notify the channels that FILE defines' -r -F
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l until -d 'Take only rows before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l since -d 'Take only rows at or after INSTANT, by event_time, window_end or failed_at' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l once -d 'Read the inputs to their end, for cron: the exit status is 1 if an alert fired or still fires; nothing is printed if no alert fired, was resolved or still fires'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -a "test" -d 'Run unit tests of rules: series of rows, and the alerts that fire at instants; exit with status 1 and the differences if one fails'
complete -c evt -n "__fish_evt_using_subcommand alert; and not __fish_seen_subcommand_from test help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from test" -s m -l metrics -d 'Read the metrics that rules name from FILE (evt-metrics(5))' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from test" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from test" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from test" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from test" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from help" -f -a "test" -d 'Run unit tests of rules: series of rows, and the alerts that fire at instants; exit with status 1 and the differences if one fails'
complete -c evt -n "__fish_evt_using_subcommand alert; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand backfill" -s m -l metrics -d 'Read the metrics from FILE (evt-metrics(5)); their results replace the stored ones' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l only -d 'Correct only this metric (repeatable); the others are still evaluated' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l since -d 'Correct windows that start at INSTANT or later' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l until -d 'Correct windows that end at INSTANT or earlier' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l last -d 'Correct windows that start in the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l before -d 'Read events from this long before --since, in which sessions may begin, and around late events' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l memory -d 'Keep about SIZE of the windows in memory, at least 8MiB, and the rest in files in TMPDIR [default: 1GiB, at most half of the limit of the control group]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l closed-before -d 'Correct only windows that are closed at INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l out-of-orderness -d 'The out-of-orderness of the run that wrote the windows (evt-window(1)) [default: as the store keeps it, else that of the metrics file, else 30s, and then no stored row is lowered or retracted for late events]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l late-events -d 'Count the late events of URI in the windows that they were late for' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l reason -d 'Keep TEXT with the correction in the store' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l rate -d 'Read at most N events per second' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l schemas -d 'Validate against this directory or registry of schemas; without it only the envelope is checked' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l subject -d 'Take the subject from a column or path, or use TEXT for all events (=TEXT)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l dedup -d 'Drop an event whose event_id occurred in its partition within this much stream time' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand backfill" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand backfill" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand backfill" -l all-records -d 'Treat the input as complete, even if a partition of it does not begin with its first offset'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l all-closed -d 'Treat all windows of a store as closed, even if one of its partitions ended before them'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l keep-late -d 'Keep stored rows all of whose events are late in this run'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l without-late -d 'Remove the late events that earlier corrections counted'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l take-over -d 'End the unfinished correction of a killed run'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l dry-run -d 'Show what would change and write nothing; exit status 1 if anything would'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l no-extra-fields -d 'Reject properties that the schema does not define'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand backfill" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand backfill" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand backfill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand backfill" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand replay" -l patch -d 'Repair each record by assignments: set NAME = EXPRESSION, ... (evt-metrics(5))' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l ledger -d 'Keep what was replayed in this database, so that no letter is replayed twice (sqlite: or postgres:)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l rate -d 'Read at most N letters per second' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l schemas -d 'Validate against this directory or registry of schemas; without it only the envelope is checked' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l subject -d 'Take the subject from a column or path, or use TEXT for all events (=TEXT)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand replay" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand replay" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand replay" -l dry-run -d 'Show what would become of each letter and write nothing; exit status 1 if anything would change'
complete -c evt -n "__fish_evt_using_subcommand replay" -l no-extra-fields -d 'Reject properties that the schema does not define'
complete -c evt -n "__fish_evt_using_subcommand replay" -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt -n "__fish_evt_using_subcommand replay" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand replay" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand replay" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand replay" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand replay" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand replay" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand replay" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand replay" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand replay" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand view" -l where -d 'Show only rows for which EXPR is true' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l until -d 'Take only rows before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l head -d 'Show the first N rows, then stop reading; with --sort the first N in its order' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l tail -d 'Show the last N rows; with --head the last N of those; with --follow the last N up to now, then further rows' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l sort -d 'Show the rows in the order of this column or property path; -NAME is descending' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l columns -d 'Show these columns and property paths, in this order: event_time,country,labels[1].name; \'*\' is all fields of the records' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l let -d 'Compute column NAME of each row, for --where, --columns and later ones (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand view" -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand view" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand view" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand view" -l follow -d 'Keep reading as files grow, through rotation and truncation'
complete -c evt -n "__fish_evt_using_subcommand view" -l plot -d 'Draw metrics over time, a line for each combination of dimensions; --to FILE.svg or -o svg makes a document of it'
complete -c evt -n "__fish_evt_using_subcommand view" -l describe -d 'Show counts, rates, time range, disorder, nulls and frequent values instead of rows'
complete -c evt -n "__fish_evt_using_subcommand view" -l summary -d 'Summarize dead letters by error, origin, stage and kind of message; the default on a terminal'
complete -c evt -n "__fish_evt_using_subcommand view" -l rows -d 'Show dead letters one by one'
complete -c evt -n "__fish_evt_using_subcommand view" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand view" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand view" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand view" -l overwrite -d 'Replace output files that exist'
complete -c evt -n "__fish_evt_using_subcommand view" -l append -d 'Add rows to output files of text that exist'
complete -c evt -n "__fish_evt_using_subcommand view" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand view" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand view" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand view" -l control -d 'Show control messages; read control lines in JSONL'
complete -c evt -n "__fish_evt_using_subcommand view" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand view" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -f -a "check" -d 'Check whether a schema is compatible with earlier ones; exit with status 1 if not'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -f -a "register" -d 'Register a schema under a subject if it is compatible; exit with status 1 if not'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -f -a "show" -d 'Print a schema'
complete -c evt -n "__fish_evt_using_subcommand schema; and not __fish_seen_subcommand_from check register list show help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l against -d 'Compare with these schemas, oldest first' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l subject -d 'Compare with all versions of this subject' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l schemas -d 'Find the subject in this directory or registry of schemas' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l level -d 'Check at this compatibility level: NONE, BACKWARD, FORWARD, FULL, or one of the last three with _TRANSITIVE [default: the level of the subject, else BACKWARD]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l subject -d 'Register under this subject: the event type, unless evt-validate --subject names another field' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l schemas -d 'Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from register" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l schemas -d 'Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l number -d 'Print this version [default: the latest]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l schemas -d 'Use this directory of schemas or registry: http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from help" -f -a "check" -d 'Check whether a schema is compatible with earlier ones; exit with status 1 if not'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from help" -f -a "register" -d 'Register a schema under a subject if it is compatible; exit with status 1 if not'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from help" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print a schema'
complete -c evt -n "__fish_evt_using_subcommand schema; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l plus -d 'Accept records that are here: dead letters, late rows, duplicates (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l by -d 'Match by position (origin, partition, offset) or by event_id [default: by position if rows of B have A\'s origin]' -r -f -a "position\t'Origin, partition and offset'
id\t'The event_id'"
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l settle -d 'Accept that a record which arrived less than DURATION before the start of the run is not in B yet' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l tolerance -d 'Accept this share of wrong records: 0.01 or 1%' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l since -d 'Compare records with an event time at or after INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l until -d 'Compare records with an event time before INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l last -d 'Compare records of the last DURATION, like --since now-DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -s f -l input-format -d 'Set the format of A: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l lag -d 'Show how far the group of this topic is behind, per partition: kafka://HOST:PORT/TOPIC?group=NAME' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l max-lag -d 'Exit with status 1 if a partition is further behind' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l freshness -d 'Show the age of the newest window of each metric of this store, or of its newest event' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l max-age -d 'Exit with status 1 if one is older' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l only -d 'Measure this metric only (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l bucket -d 'Write one row for each partition and bucket of event time of this length' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -s o -l output-format -d 'Write the results as table, jsonl or prometheus [default: table on a terminal, else jsonl]' -r -f -a "table\t'A table'
jsonl\t'JSON lines'
prometheus\t'The text format of Prometheus'"
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l to -d 'Write the results to FILE, which is replaced; - is standard output' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l dedup -d 'Count a record apart if its event_id is in B from another position of A'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l ids -d 'Write each event that is missing, extra, double or different; this also compares contents'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand reconcile" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand gen" -l events -d 'Generate this many records, faults and duplicates included' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l seed -d 'Set the seed; the same seed and flags give the same bytes' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l rate -d 'Generate this many records per second of event time' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l start -d 'Set the earliest event time of a record that is not late' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l partitions -d 'Use N partitions; with more than one, each record has a field `shard` for `--field partition=shard`' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l users -d 'Use this many distinct users; one record in ten has none' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l pages -d 'Use this many distinct pages' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l countries -d 'Use this many distinct countries, at most 40' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l event-types -d 'Use this many distinct event types, at most 8' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l skew -d 'Set the Zipf exponent for users, pages, countries and event types; with 0 all are equally likely' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l schema-versions -d 'Mix this many versions of the schemas: 1 or 2' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l disorder -d 'Delay events by at most this much between event time and arrival' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l late -d 'Make this share of records late: between --late-by and twice that behind the stream time of their partition' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l late-by -d 'Set the minimum delay of late records' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l duplicates -d 'Make this share of records repeat a recent one byte for byte' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l future -d 'Set the client\'s clock ahead in this share of records, by --future-by to twice that' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l future-by -d 'Set the minimum lead of clocks that are ahead' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l malformed -d 'Make this share of records invalid for evt-ingest, in twelve ways' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l invalid -d 'Make this share of records violate their schema' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l too-large -d 'Make this share of records longer than 1 MiB' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l truth -d 'Write the expected results under the rules below to FILE, as JSON' -r -F
complete -c evt -n "__fish_evt_using_subcommand gen" -l size -d 'Set the length of a window' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l slide -d 'Start a window every D [default: --size]' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l by -d 'Group by these fields: event_type, source, user_id, page, country, device' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l out-of-orderness -d 'Allow events this far behind the stream time of their partition' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l lateness -d 'Accept events until the watermark is this far past the end of a window' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l time -d 'Take the event time from server_timestamp or client_timestamp' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l max-future -d 'Reject events timestamped more than this after their server_timestamp [default: no limit]' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l dedup -d 'Treat an event_id seen within this much stream time as a duplicate [default: no dedup]' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l truth-as -d 'Expect the records to arrive as a file, or over HTTP (evt-ingest http://...), where server_timestamp is the arrival and --time must be client_timestamp' -r -f -a "file\t'As lines of a file or a pipe'
http\t'As requests over HTTP'"
complete -c evt -n "__fish_evt_using_subcommand gen" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand gen" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand gen" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand gen" -l validated -d 'Expect evt-validate to reject --invalid records'
complete -c evt -n "__fish_evt_using_subcommand gen" -l sharded -d 'Expect `shard` to be mapped to the partition'
complete -c evt -n "__fish_evt_using_subcommand gen" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand gen" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand gen" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand gen" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand pipe" -s f -l file -d 'Read the pipeline from FILE' -r -F
complete -c evt -n "__fish_evt_using_subcommand pipe" -l threads -d 'Use N threads for the records of all stages together [default: the cores, at most 16]' -r
complete -c evt -n "__fish_evt_using_subcommand pipe" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand pipe" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand pipe" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand pipe" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand pipe" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand pipe" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand pipe" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand pipe" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand pipe" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand pipe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand pipe" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand flink" -s m -l metrics -d 'Read the metrics to compute from FILE (evt-metrics(5))' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l agg -d 'Compute the aggregate EXPR (repeatable) [default: count(*)]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l by -d 'Group by these columns, property paths and named expressions (comma-separated, repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l where -d 'Aggregate only events for which EXPR is true' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l size -d 'Set the length of a window: a duration, a calendar month, quarter or year, or all, which fires at the end of the input' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l window-zone -d 'Use the calendar of this IANA time zone for --size 1d, 1w (from Monday), 1mo, 1q or 1y [default: UTC; no calendar for 1d, 1w]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l slide -d 'Start a window every DURATION [default: --size, tumbling windows]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l gap -d 'Use session windows that end after DURATION without an event of their key' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l lateness -d 'Accept events until the watermark is this far past the end of a window [default: 0s]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l align -d 'Shift the start of all windows by DURATION, which may be negative' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l only -d 'Leave out all metrics but NAME (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l time -d 'Take the event time from a column of the records, or a path [default: server_timestamp, else event_time, else the timestamp of the record]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l out-of-orderness -d 'Allow events this far behind the stream time of their partition [default: that of the file, else 30s]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l since -d 'Take only events at or after INSTANT' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l to -d 'Write metrics to this topic, or to evt\'s tables in PostgreSQL (postgres://USER@HOST/DATABASE)' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l late -d 'Write late events to this topic' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l dlq -d 'Write dead letters to this topic' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l checkpoint-every -d 'Make rows visible every DURATION, at a checkpoint' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l dir -d 'Write the job, its functions and its proof to this directory [default: the job on standard output]' -r -F
complete -c evt -n "__fish_evt_using_subcommand flink" -l upgrade -d 'Write a job of the metrics alone that the one in OLD_DIR does not have, to run beside it' -r -F
complete -c evt -n "__fish_evt_using_subcommand flink" -l jar -d 'Copy the functions from this file [default: share/evt beside the directory of evt]' -r -F
complete -c evt -n "__fish_evt_using_subcommand flink" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand flink" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand flink" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand flink" -l late-partial -d 'Write events that only some of their windows counted to --late, too'
complete -c evt -n "__fish_evt_using_subcommand flink" -l overwrite -d 'Replace a job of --dir that differs'
complete -c evt -n "__fish_evt_using_subcommand flink" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand flink" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand flink" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand flink" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -f -a "describe" -d 'Print rows, files, days, snapshots and last epochs of each table'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -f -a "compact" -d 'Join the small files of each closed day to files of 128 MiB'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -f -a "expire" -d 'Remove old snapshots, files that nothing names, and old rows'
complete -c evt -n "__fish_evt_using_subcommand lake; and not __fish_seen_subcommand_from describe compact expire help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from describe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l closed-after -d 'Compact days that ended at least DURATION ago' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l now -d 'Count ages from this instant, instead of the clock' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l dry-run -d 'Only print what would be done'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from compact" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l snapshots -d 'Remove snapshots that are older than DURATION, but the present one and those that a branch or tag names' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l orphans-older-than -d 'Remove files that nothing names if they are older than DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l keep -d 'Remove the rows of days that ended at least DURATION ago [default: all rows stay]' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l now -d 'Count ages from this instant, instead of the clock' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l dry-run -d 'Only print what would be done'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from expire" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from help" -f -a "describe" -d 'Print rows, files, days, snapshots and last epochs of each table'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from help" -f -a "compact" -d 'Join the small files of each closed day to files of 128 MiB'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from help" -f -a "expire" -d 'Remove old snapshots, files that nothing names, and old rows'
complete -c evt -n "__fish_evt_using_subcommand lake; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand serve" -l from -d 'Answer from this store (repeatable, in the order of preference); ?span=DURATION: only with windows that ended within it' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -s m -l metrics -d 'Read how metrics are computed from FILE, to warn of sums that have no meaning (evt-metrics(5))' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l refresh -d 'Read the names and dimensions of metrics, and the corrections of stores, again after DURATION' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l max-windows -d 'Limit the number of windows of an answer' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l lookback -d 'In PromQL, show a window for DURATION after its end [default: until the next one]' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l host -d 'Answer requests for this host name, too, beside addresses and localhost (repeatable)' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l tokens -d 'Accept only requests with a token from FILE, which is reloaded on SIGHUP' -r -F
complete -c evt -n "__fish_evt_using_subcommand serve" -l tls-cert -d 'Read the certificate chain for https:// from a PEM file' -r -F
complete -c evt -n "__fish_evt_using_subcommand serve" -l tls-key -d 'Read the private key of the certificate from a PEM file' -r -F
complete -c evt -n "__fish_evt_using_subcommand serve" -l max-connections -d 'Limit the number of open connections' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l idle-timeout -d 'Close connections that are idle this long between requests' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l head-timeout -d 'Limit the time to receive the head of a request; for the first one it begins with the connection' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l request-timeout -d 'Limit the time to receive a request body, and then the time to store it' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt -n "__fish_evt_using_subcommand serve" -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt -n "__fish_evt_using_subcommand serve" -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt -n "__fish_evt_using_subcommand serve" -l anonymous -d 'Accept requests without a token'
complete -c evt -n "__fish_evt_using_subcommand serve" -l log-requests -d 'Log one line per request'
complete -c evt -n "__fish_evt_using_subcommand serve" -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt -n "__fish_evt_using_subcommand serve" -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt -n "__fish_evt_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt -n "__fish_evt_using_subcommand serve" -s V -l version -d 'Print version'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "ingest" -d 'Turn raw records into events'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "validate" -d 'Check events against their schemas and drop duplicates'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "window" -d 'Aggregate events over event-time windows'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "sink" -d 'Write rows to stores and files'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "alert" -d 'Fire alerts by rules over events, and notify people'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "backfill" -d 'Correct stored windows from raw events'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "replay" -d 'Repair dead letters and replay each of them once'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "view" -d 'Show, filter and convert the rows of any stream, file or store'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "schema" -d 'Check, register, list and show event schemas'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "reconcile" -d 'Prove that every record of A is in B or in a side output'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "gen" -d 'Generate events from a seed, as JSON lines'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "pipe" -d 'Run the stages of a pipeline in one process'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "flink" -d 'Write a job of Apache Flink that computes metrics with the rows of evt-window'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "lake" -d 'Describe, compact and clean tables of Iceberg'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "serve" -d 'Answer dashboards and Grafana from stores of metrics'
complete -c evt -n "__fish_evt_using_subcommand help; and not __fish_seen_subcommand_from ingest validate window sink alert backfill replay view schema reconcile gen pipe flink lake serve help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from alert" -f -a "test" -d 'Run unit tests of rules: series of rows, and the alerts that fire at instants; exit with status 1 and the differences if one fails'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from schema" -f -a "check" -d 'Check whether a schema is compatible with earlier ones; exit with status 1 if not'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from schema" -f -a "register" -d 'Register a schema under a subject if it is compatible; exit with status 1 if not'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from schema" -f -a "list" -d 'List subjects with their level and versions'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from schema" -f -a "show" -d 'Print a schema'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from lake" -f -a "describe" -d 'Print rows, files, days, snapshots and last epochs of each table'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from lake" -f -a "compact" -d 'Join the small files of each closed day to files of 128 MiB'
complete -c evt -n "__fish_evt_using_subcommand help; and __fish_seen_subcommand_from lake" -f -a "expire" -d 'Remove old snapshots, files that nothing names, and old rows'
