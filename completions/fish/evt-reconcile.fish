complete -c evt-reconcile -l plus -d 'Accept records that are here: dead letters, late rows, duplicates (repeatable)' -r
complete -c evt-reconcile -l by -d 'Match by position (origin, partition, offset) or by event_id [default: by position if rows of B have A\'s origin]' -r -f -a "position\t'Origin, partition and offset'
id\t'The event_id'"
complete -c evt-reconcile -l settle -d 'Accept that a record which arrived less than DURATION before the start of the run is not in B yet' -r
complete -c evt-reconcile -l tolerance -d 'Accept this share of wrong records: 0.01 or 1%' -r
complete -c evt-reconcile -l since -d 'Compare records with an event time at or after INSTANT' -r
complete -c evt-reconcile -l until -d 'Compare records with an event time before INSTANT' -r
complete -c evt-reconcile -l last -d 'Compare records of the last DURATION, like --since now-DURATION' -r
complete -c evt-reconcile -s f -l input-format -d 'Set the format of A: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt-reconcile -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt-reconcile -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt-reconcile -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt-reconcile -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt-reconcile -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt-reconcile -l lag -d 'Show how far the group of this topic is behind, per partition: kafka://HOST:PORT/TOPIC?group=NAME' -r
complete -c evt-reconcile -l max-lag -d 'Exit with status 1 if a partition is further behind' -r
complete -c evt-reconcile -l freshness -d 'Show the age of the newest window of each metric of this store, or of its newest event' -r
complete -c evt-reconcile -l max-age -d 'Exit with status 1 if one is older' -r
complete -c evt-reconcile -l only -d 'Measure this metric only (repeatable)' -r
complete -c evt-reconcile -l bucket -d 'Write one row for each partition and bucket of event time of this length' -r
complete -c evt-reconcile -s o -l output-format -d 'Write the results as table, jsonl or prometheus [default: table on a terminal, else jsonl]' -r -f -a "table\t'A table'
jsonl\t'JSON lines'
prometheus\t'The text format of Prometheus'"
complete -c evt-reconcile -l to -d 'Write the results to FILE, which is replaced; - is standard output' -r
complete -c evt-reconcile -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt-reconcile -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt-reconcile -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt-reconcile -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt-reconcile -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt-reconcile -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt-reconcile -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt-reconcile -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt-reconcile -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt-reconcile -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt-reconcile -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt-reconcile -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt-reconcile -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt-reconcile -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt-reconcile -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt-reconcile -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt-reconcile -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-reconcile -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-reconcile -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-reconcile -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-reconcile -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-reconcile -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-reconcile -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-reconcile -l dedup -d 'Count a record apart if its event_id is in B from another position of A'
complete -c evt-reconcile -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt-reconcile -l ids -d 'Write each event that is missing, extra, double or different; this also compares contents'
complete -c evt-reconcile -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt-reconcile -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt-reconcile -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt-reconcile -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-reconcile -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-reconcile -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-reconcile -s V -l version -d 'Print version'
