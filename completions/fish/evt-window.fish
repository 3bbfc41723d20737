complete -c evt-window -s m -l metrics -d 'Metrics to compute (evt-metrics(5))' -r
complete -c evt-window -l agg -d 'An aggregate, repeatable: [NAME=]EXPR; count(*) by default' -r
complete -c evt-window -l by -d 'Dimensions: columns and property paths, comma-separated' -r
complete -c evt-window -l where -d 'Count only events for which this is true' -r
complete -c evt-window -l size -d 'Length of a window' -r
complete -c evt-window -l slide -d 'Distance between two windows; tumbling without it' -r
complete -c evt-window -l gap -d 'Session windows: the silence that ends one' -r
complete -c evt-window -l lateness -d 'How long past its end a window stays open' -r
complete -c evt-window -l align -d 'Shift window starts, also by a negative duration' -r
complete -c evt-window -l out-of-orderness -d 'How far an event may lie behind its partition\'s stream time; with all any distance, and nothing fires before the end' -r
complete -c evt-window -l emit -d 'Emit panes as windows fire, or one final row when their state goes' -r -f -a "panes\t''
final\t''"
complete -c evt-window -l at-end -d 'What happens to open windows at the end; by default they fire at an exhausted end and are held at a stopped one' -r -f -a "fire\t''
hold\t''"
complete -c evt-window -l idle-after -d 'Let a partition that is silent this long hold the watermark back no more (impure)' -r
complete -c evt-window -l new-partitions -d 'Accept partitions that appear after windows closed without them; their rows may be late (impure)' -r -f -a "late\t''"
complete -c evt-window -l late -d 'Where late events go' -r
complete -c evt-window -s f -l input-format -d 'Format of the input: frames jsonl csv tsv avro parquet clf arrow' -r
complete -c evt-window -l kind -d 'Kind of the rows: event metric dead late alert' -r
complete -c evt-window -l field -d 'Copy a field into a column: COLUMN=PATH' -r
complete -c evt-window -l set -d 'Set a column: COLUMN=TEXT' -r
complete -c evt-window -l time -d 'Where the event time stands: a column, a path, or arrival' -r
complete -c evt-window -l time-unit -d 'Unit of times that are numbers: s ms us ns d' -r
complete -c evt-window -l time-format -d 'Format of times that are not RFC 3339 (strftime)' -r
complete -c evt-window -l time-zone -d 'Zone of times without one (IANA name); UTC by default' -r
complete -c evt-window -l max-future -d 'Dead: events more than this after their arrival' -r
complete -c evt-window -l require -d 'Fields that must be there, comma-separated' -r
complete -c evt-window -l origin -d 'Name of the origin instead of the input\'s' -r
complete -c evt-window -l partitions -d 'Every partition there will be, where --field maps them' -r
complete -c evt-window -l to -d 'Where rows go, repeatable; - is standard output' -r
complete -c evt-window -s o -l output-format -d 'Format of the output: frames jsonl csv tsv avro parquet table raw' -r
complete -c evt-window -l dlq -d 'Where dead letters go; without it they are reported and dropped' -r
complete -c evt-window -l stats -d 'Write the summary as JSON' -r
complete -c evt-window -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-window -l now -d 'The clock, for repeatable output' -r
complete -c evt-window -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-window -l max-record -d 'The longest record that is read' -r
complete -c evt-window -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-window -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-window -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-window -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-window -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-window -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-window -l late-partial -d 'Write events that some windows did count to --late too'
complete -c evt-window -l disjoint -d 'No key lies in two partitions: a run may read some of a topic (?partitions=)'
complete -c evt-window -l control -d 'Accept control lines in JSONL, and drive windows by them alone'
complete -c evt-window -l hash-ids -d 'Make ids that are no UUID one, from source and text'
complete -c evt-window -l overwrite -d 'Replace an output file that exists'
complete -c evt-window -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-window -l strict -d 'Exit 1 if any record was dead'
complete -c evt-window -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-window -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-window -s V -l version -d 'Print version'
