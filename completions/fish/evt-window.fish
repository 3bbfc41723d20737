complete -c evt-window -s m -l metrics -d 'Read the metrics to compute from FILE (evt-metrics(5))' -r
complete -c evt-window -l agg -d 'Compute the aggregate EXPR (repeatable) [default: count(*)]' -r
complete -c evt-window -l by -d 'Group by these columns, property paths and named expressions (comma-separated, repeatable)' -r
complete -c evt-window -l where -d 'Aggregate only events for which EXPR is true' -r
complete -c evt-window -l size -d 'Set the length of a window: a duration, a calendar month, quarter or year, or all, which fires at the end of the input' -r
complete -c evt-window -l window-zone -d 'Use the calendar of this IANA time zone for --size 1d, 1w (from Monday), 1mo, 1q or 1y [default: UTC; no calendar for 1d, 1w]' -r
complete -c evt-window -l slide -d 'Start a window every DURATION [default: --size, tumbling windows]' -r
complete -c evt-window -l gap -d 'Use session windows that end after DURATION without an event of their key' -r
complete -c evt-window -l lateness -d 'Accept events until the watermark is this far past the end of a window [default: 0s]' -r
complete -c evt-window -l align -d 'Shift the start of all windows by DURATION, which may be negative' -r
complete -c evt-window -l out-of-orderness -d 'Allow events this far behind the stream time of their partition; with all, windows fire only at the end [default: all if every input ends, else 30s]' -r
complete -c evt-window -l emit -d 'Emit a pane whenever a window fires, or one final row when its state is dropped [default: final if all outputs are CSV, TSV or tables, else panes]' -r -f -a "panes\t''
final\t''"
complete -c evt-window -l at-end -d 'Fire or hold open windows at the end [default: fire at the end of the input, hold after a signal and with --checkpoint]' -r -f -a "fire\t'All open windows fire'
hold\t'Only those fire that are before the watermark; partitions of topics do not end at end='"
complete -c evt-window -l idle-after -d 'Exclude a partition from the watermark once it is idle this long; results then depend on timing' -r
complete -c evt-window -l new-partitions -d 'Accept partitions that appear after windows have closed, as with --checkpoint; their rows may be late, and results depend on timing' -r -f -a "late\t''"
complete -c evt-window -l top -d 'Write only the rows of the N keys of each window with the greatest values; implies --emit final' -r
complete -c evt-window -l of -d 'Rank the keys by this metric [default: the first metric of those with the same dimensions and windows]' -r
complete -c evt-window -l late -d 'Write late events to URI; without it they are counted and lost, and the exit status is 1' -r
complete -c evt-window -l memory -d 'Keep about SIZE of state in memory, at least 8MiB, and the rest in files, of the checkpoint or in TMPDIR [default: 1GiB, at most half of the limit of the control group]' -r
complete -c evt-window -l checkpoint -d 'Keep state and positions in a directory or a bucket of S3, and write each row once, whatever stops the run (evt-checkpoint(5))' -r -F
complete -c evt-window -l checkpoint-every -d 'End an epoch, whose rows become visible together, every DURATION' -r
complete -c evt-window -l keep-epochs -d 'Keep the last N complete epochs' -r
complete -c evt-window -l restore -d 'Continue from the K-th epoch before the last one, such as n-1 if the last one is damaged; outputs without keys get rows twice' -r
complete -c evt-window -l ends -d 'Expect N last stages, because tee(1) splits the pipe' -r
complete -c evt-window -l branch -d 'Name the branch behind tee(1) that begins with this stage, in the checkpoint of the pipe (evt-checkpoint(5))' -r
complete -c evt-window -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt-window -l until -d 'Take only rows before INSTANT' -r
complete -c evt-window -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt-window -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt-window -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt-window -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt-window -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt-window -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt-window -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt-window -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt-window -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt-window -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt-window -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt-window -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt-window -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt-window -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt-window -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt-window -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt-window -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt-window -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt-window -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt-window -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt-window -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt-window -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt-window -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt-window -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt-window -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt-window -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt-window -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt-window -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-window -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-window -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-window -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-window -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-window -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-window -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-window -l wide -d 'Write the metrics of a window and key side by side in one row, in CSV unless -o or a name says otherwise; implies --emit final'
complete -c evt-window -l late-partial -d 'Write events that only some of their windows counted to --late, too'
complete -c evt-window -l allow-partition-subset -d 'Allow reading a subset of the partitions of a topic (?partitions=); no key may have rows in two partitions'
complete -c evt-window -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt-window -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt-window -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt-window -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt-window -l overwrite -d 'Replace output files that exist'
complete -c evt-window -l append -d 'Add rows to output files of text that exist'
complete -c evt-window -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt-window -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-window -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-window -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-window -s V -l version -d 'Print version'
