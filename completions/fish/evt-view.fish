complete -c evt-view -l where -d 'Rows for which this is true' -r
complete -c evt-view -l since -d 'Rows of this instant and later: event_time, window_start, failed_at or since' -r
complete -c evt-view -l until -d 'Rows before this instant' -r
complete -c evt-view -l last -d 'Rows of the time up to now: --since now-DURATION' -r
complete -c evt-view -l head -d 'The first N rows, then stop reading' -r
complete -c evt-view -l tail -d 'The last N rows; with --head the last N of those' -r
complete -c evt-view -l columns -d 'Columns and property paths, in this order: event_time,country,repo.name' -r
complete -c evt-view -s f -l input-format -d 'Format of the input: frames jsonl csv tsv avro parquet clf arrow' -r
complete -c evt-view -l kind -d 'Kind of the rows: event metric dead late alert' -r
complete -c evt-view -l field -d 'Copy a field into a column: COLUMN=PATH' -r
complete -c evt-view -l set -d 'Set a column: COLUMN=TEXT' -r
complete -c evt-view -l time -d 'Where the event time stands: a column, a path, or arrival' -r
complete -c evt-view -l time-unit -d 'Unit of times that are numbers: s ms us ns d' -r
complete -c evt-view -l time-format -d 'Format of times that are not RFC 3339 (strftime)' -r
complete -c evt-view -l time-zone -d 'Zone of times without one (IANA name); UTC by default' -r
complete -c evt-view -l max-future -d 'Dead: events more than this after their arrival' -r
complete -c evt-view -l require -d 'Fields that must be there, comma-separated' -r
complete -c evt-view -l origin -d 'Name of the origin instead of the input\'s' -r
complete -c evt-view -l partitions -d 'Every partition there will be, where --field maps them' -r
complete -c evt-view -l to -d 'Where rows go, repeatable; - is standard output' -r
complete -c evt-view -s o -l output-format -d 'Format of the output: frames jsonl csv tsv avro parquet table raw' -r
complete -c evt-view -l dlq -d 'Where dead letters go; without it they are reported and dropped' -r
complete -c evt-view -l stats -d 'Write the summary as JSON' -r
complete -c evt-view -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-view -l now -d 'The clock, for repeatable output' -r
complete -c evt-view -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-view -l max-record -d 'The longest record that is read' -r
complete -c evt-view -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-view -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-view -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-view -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-view -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-view -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-view -l follow -d 'Read on as files grow, through rotation and truncation'
complete -c evt-view -l describe -d 'Counts, rates, time range, disorder, nulls and frequent values instead of rows'
complete -c evt-view -l summary -d 'Dead letters summed up by error, origin and stage; the default on a terminal'
complete -c evt-view -l rows -d 'Dead letters one by one'
complete -c evt-view -l hash-ids -d 'Make ids that are no UUID one, from source and text'
complete -c evt-view -l overwrite -d 'Replace an output file that exists'
complete -c evt-view -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-view -l strict -d 'Exit 1 if any record was dead'
complete -c evt-view -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-view -l control -d 'Show control messages, and accept control lines in JSONL'
complete -c evt-view -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-view -s V -l version -d 'Print version'
