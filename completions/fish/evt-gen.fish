complete -c evt-gen -l events -d 'Records to make, faults and duplicates included' -r
complete -c evt-gen -l seed -d 'What decides every byte: the same seed and flags give the same bytes' -r
complete -c evt-gen -l rate -d 'Records a second of event time' -r
complete -c evt-gen -l start -d 'The earliest event time of a record that is not late' -r
complete -c evt-gen -l partitions -d 'Partitions; with more than one, each record has the field `shard` for `--field partition=shard`' -r
complete -c evt-gen -l users -d 'Distinct users; one record in ten has none' -r
complete -c evt-gen -l pages -d 'Distinct pages' -r
complete -c evt-gen -l countries -d 'Distinct countries, at most 40' -r
complete -c evt-gen -l event-types -d 'Distinct event types, at most 8' -r
complete -c evt-gen -l skew -d 'Zipf\'s exponent for users, pages, countries and event types; 0 makes all equally likely' -r
complete -c evt-gen -l schema-versions -d 'Versions of the schemas, mixed: 1 or 2' -r
complete -c evt-gen -l disorder -d 'How far an event may lie behind its arrival, at most' -r
complete -c evt-gen -l late -d 'Share of records that come --late-by behind the stream time of their partition, or up to twice as far' -r
complete -c evt-gen -l late-by -d 'How far the late ones lie behind, at least' -r
complete -c evt-gen -l duplicates -d 'Share of records that repeat a recent one byte for byte' -r
complete -c evt-gen -l future -d 'Share of records whose client\'s clock is --future-by ahead of the server\'s, or up to twice as far' -r
complete -c evt-gen -l future-by -d 'How far those clocks are ahead, at least' -r
complete -c evt-gen -l malformed -d 'Share of records that evt-ingest refuses, of twelve kinds' -r
complete -c evt-gen -l invalid -d 'Share of records that violate their schema' -r
complete -c evt-gen -l too-large -d 'Share of records longer than 1 MiB' -r
complete -c evt-gen -l truth -d 'Where to write, as JSON, what the records must come to under the rules below' -r -F
complete -c evt-gen -l size -d 'Length of a window' -r
complete -c evt-gen -l slide -d 'From one window\'s start to the next [default: --size]' -r
complete -c evt-gen -l by -d 'What a key consists of: event_type, source, user_id, page, country, device' -r
complete -c evt-gen -l out-of-orderness -d 'The bound subtracted from stream time' -r
complete -c evt-gen -l lateness -d 'How long past its end a window stays open' -r
complete -c evt-gen -l time -d 'The event time: server_timestamp or client_timestamp' -r
complete -c evt-gen -l max-future -d 'How far an event may lie ahead of its server_timestamp [default: any distance]' -r
complete -c evt-gen -l dedup -d 'An event_id seen at most that much stream time ago is a duplicate [default: every row counts]' -r
complete -c evt-gen -l truth-as -d 'How the records are handed over: as a file, or to a front door (evt-ingest http://...), which sets server_timestamp when they arrive; the event time is then --time client_timestamp' -r -f -a "file\t'As lines of a file or a pipe'
http\t'As requests over HTTP'"
complete -c evt-gen -l stats -d 'Write the summary as JSON' -r
complete -c evt-gen -l report -d 'Report the first N faulty records, or all' -r
complete -c evt-gen -l now -d 'The clock, for repeatable output' -r
complete -c evt-gen -l pipeline -d 'The name under which the stages of one pipe find each other' -r
complete -c evt-gen -l max-record -d 'The longest record that is read' -r
complete -c evt-gen -l max-ratio -d 'How many times its packed size an input may unpack to, once it is more than 100 MiB' -r
complete -c evt-gen -l kafka-config -d 'Settings of librdkafka for every topic, one NAME=VALUE a line' -r
complete -c evt-gen -l config -d 'Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]' -r
complete -c evt-gen -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 is the loopback\'s), or write them to a file every few seconds' -r
complete -c evt-gen -l log-format -d 'How diagnostics are written: text, or one JSON object a line' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'"
complete -c evt-gen -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-gen -l validated -d 'evt-validate holds the schemas, so that --invalid records are dead letters'
complete -c evt-gen -l sharded -d '`shard` is mapped to the partition'
complete -c evt-gen -s q -l quiet -d 'Say nothing but errors: no summary, no progress'
complete -c evt-gen -l strict -d 'Exit 1 if any record was dead'
complete -c evt-gen -l check -d 'Look whether everything named is there and lets us in, say so, and stop; no data is touched'
complete -c evt-gen -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-gen -s V -l version -d 'Print version'
