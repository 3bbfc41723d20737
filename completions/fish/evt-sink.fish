complete -c evt-sink -l ttl -d 'How long rows stay in stores that forget (redis); ?ttl= of one URI wins' -r
complete -c evt-sink -s f -l input-format -d 'Format of the input: frames jsonl csv tsv avro parquet clf arrow' -r
complete -c evt-sink -l kind -d 'Kind of the rows: event metric dead late alert' -r
complete -c evt-sink -l field -d 'Copy a field into a column: COLUMN=PATH' -r
complete -c evt-sink -l set -d 'Set a column: COLUMN=TEXT' -r
complete -c evt-sink -l time -d 'Where the event time stands: a column, a path, or arrival' -r
complete -c evt-sink -l time-unit -d 'Unit of times that are numbers: s ms us ns d' -r
complete -c evt-sink -l time-format -d 'Format of times that are not RFC 3339 (strftime)' -r
complete -c evt-sink -l time-zone -d 'Zone of times without one (IANA name); UTC by default' -r
complete -c evt-sink -l max-future -d 'Dead: events more than this after their arrival' -r
complete -c evt-sink -l require -d 'Fields that must be there, comma-separated' -r
complete -c evt-sink -l origin -d 'Name of the origin instead of the input\'s' -r
complete -c evt-sink -l partitions -d 'Every partition there will be, where --field maps them' -r
complete -c evt-sink -l to -d 'Where rows go, repeatable; - is standard output' -r
complete -c evt-sink -s o -l output-format -d 'Format of the output: frames jsonl csv tsv avro parquet table raw' -r
complete -c evt-sink -l dlq -d 'Where dead letters go; without it they are reported and dropped' -r
complete -c evt-sink -l stats -d 'Write the summary as JSON' -r
complete -c evt-sink -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-sink -l now -d 'The clock, for repeatable output' -r
complete -c evt-sink -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-sink -l max-record -d 'The longest record that is read' -r
complete -c evt-sink -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-sink -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-sink -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-sink -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-sink -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-sink -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-sink -l list -d 'List the stores and stop'
complete -c evt-sink -l control -d 'Accept control lines in JSONL, and drive windows by them alone'
complete -c evt-sink -l hash-ids -d 'Make ids that are no UUID one, from source and text'
complete -c evt-sink -l overwrite -d 'Replace an output file that exists'
complete -c evt-sink -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-sink -l strict -d 'Exit 1 if any record was dead'
complete -c evt-sink -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-sink -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-sink -s V -l version -d 'Print version'
