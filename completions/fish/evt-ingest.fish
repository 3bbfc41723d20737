complete -c evt-ingest -l where -d 'Keep events for which this is true' -r
complete -c evt-ingest -l tokens -d 'Who may send: a file of tokens, read again on SIGHUP' -r -F
complete -c evt-ingest -l rate -d 'Events a second that are let in, over all tokens' -r
complete -c evt-ingest -l tls-cert -d 'Certificate chain in PEM, for https://' -r -F
complete -c evt-ingest -l tls-key -d 'Its key in PEM' -r -F
complete -c evt-ingest -l schemas -d 'Directory or registry of schemas: what they refuse is rejected in the answer' -r
complete -c evt-ingest -l subject -d 'What names an event\'s subject: a column or path, or =TEXT for all' -r
complete -c evt-ingest -l max-body -d 'The longest body, packed or unpacked' -r
complete -c evt-ingest -l max-pending -d 'Bytes of all bodies under way' -r
complete -c evt-ingest -l max-connections -d 'Connections at the same time' -r
complete -c evt-ingest -l idle-timeout -d 'How long a connection may be silent between requests' -r
complete -c evt-ingest -l head-timeout -d 'How long a request\'s head may take' -r
complete -c evt-ingest -l request-timeout -d 'How long a request\'s body may take, and then its keeping' -r
complete -c evt-ingest -l spool -d 'Acknowledge events once they are on disk here' -r -F
complete -c evt-ingest -l spool-max -d 'The most that the spool takes up, 4GiB by default' -r
complete -c evt-ingest -l dedup -d 'Count an event that comes again within this as duplicate' -r
complete -c evt-ingest -l ack -d 'Without a spool: when events are acknowledged' -r -f -a "output\t'When the outputs have it'
memory\t'When it is in memory: a crash loses it'"
complete -c evt-ingest -s f -l input-format -d 'Format of the input: frames jsonl csv tsv avro parquet clf arrow' -r
complete -c evt-ingest -l kind -d 'Kind of the rows: event metric dead late alert' -r
complete -c evt-ingest -l field -d 'Copy a field into a column: COLUMN=PATH' -r
complete -c evt-ingest -l set -d 'Set a column: COLUMN=TEXT' -r
complete -c evt-ingest -l time -d 'Where the event time stands: a column, a path, or arrival' -r
complete -c evt-ingest -l time-unit -d 'Unit of times that are numbers: s ms us ns d' -r
complete -c evt-ingest -l time-format -d 'Format of times that are not RFC 3339 (strftime)' -r
complete -c evt-ingest -l time-zone -d 'Zone of times without one (IANA name); UTC by default' -r
complete -c evt-ingest -l max-future -d 'Dead: events more than this after their arrival' -r
complete -c evt-ingest -l require -d 'Fields that must be there, comma-separated' -r
complete -c evt-ingest -l origin -d 'Name of the origin instead of the input\'s' -r
complete -c evt-ingest -l partitions -d 'Every partition there will be, where --field maps them' -r
complete -c evt-ingest -l to -d 'Where rows go, repeatable; - is standard output' -r
complete -c evt-ingest -s o -l output-format -d 'Format of the output: frames jsonl csv tsv avro parquet table raw' -r
complete -c evt-ingest -l dlq -d 'Where dead letters go; without it they are reported and dropped' -r
complete -c evt-ingest -l stats -d 'Write the summary as JSON' -r
complete -c evt-ingest -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-ingest -l now -d 'The clock, for repeatable output' -r
complete -c evt-ingest -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-ingest -l max-record -d 'The longest record that is read' -r
complete -c evt-ingest -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-ingest -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-ingest -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-ingest -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-ingest -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-ingest -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-ingest -l follow -d 'Read on as files grow, through rotation and truncation'
complete -c evt-ingest -l keep-raw -d 'Keep the raw record beside the event'
complete -c evt-ingest -l anonymous -d 'Let requests in that bring no token'
complete -c evt-ingest -l closed -d 'Refuse properties that the schema does not know'
complete -c evt-ingest -l log-requests -d 'Say one line for each request'
complete -c evt-ingest -l control -d 'Accept control lines in JSONL, and drive windows by them alone'
complete -c evt-ingest -l hash-ids -d 'Make ids that are no UUID one, from source and text'
complete -c evt-ingest -l overwrite -d 'Replace an output file that exists'
complete -c evt-ingest -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-ingest -l strict -d 'Exit 1 if any record was dead'
complete -c evt-ingest -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-ingest -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-ingest -s V -l version -d 'Print version'
