complete -c evt-validate -l schemas -d 'Validate against this directory or registry of schemas; without it only the envelope is checked' -r
complete -c evt-validate -l subject -d 'Take the subject from a column or path, or use TEXT for all events (=TEXT)' -r
complete -c evt-validate -l dedup -d 'Drop an event whose event_id occurred in its partition within this much stream time' -r
complete -c evt-validate -l duplicates -d 'Write the events that --dedup drops to URI, so that evt-reconcile --plus can account for them' -r
complete -c evt-validate -l memory -d 'Keep about SIZE of ids in memory, at least 8MiB, and the rest in files, of the checkpoint or in TMPDIR [default: 128MiB]' -r
complete -c evt-validate -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt-validate -l until -d 'Take only rows before INSTANT' -r
complete -c evt-validate -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt-validate -l branch -d 'Name the branch behind tee(1) that begins with this stage, in the checkpoint of the pipe (evt-checkpoint(5))' -r
complete -c evt-validate -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt-validate -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt-validate -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt-validate -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt-validate -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt-validate -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt-validate -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt-validate -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt-validate -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt-validate -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt-validate -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt-validate -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt-validate -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt-validate -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt-validate -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt-validate -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt-validate -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt-validate -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt-validate -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt-validate -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt-validate -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt-validate -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt-validate -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt-validate -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt-validate -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt-validate -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt-validate -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-validate -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-validate -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-validate -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-validate -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-validate -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-validate -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-validate -l no-extra-fields -d 'Reject properties that the schema does not define'
complete -c evt-validate -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt-validate -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt-validate -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt-validate -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt-validate -l overwrite -d 'Replace output files that exist'
complete -c evt-validate -l append -d 'Add rows to output files of text that exist'
complete -c evt-validate -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt-validate -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-validate -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-validate -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-validate -s V -l version -d 'Print version'
