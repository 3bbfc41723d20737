complete -c evt-gen -l events -d 'Generate this many records, faults and duplicates included' -r
complete -c evt-gen -l seed -d 'Set the seed; the same seed and flags give the same bytes' -r
complete -c evt-gen -l rate -d 'Generate this many records per second of event time' -r
complete -c evt-gen -l start -d 'Set the earliest event time of a record that is not late' -r
complete -c evt-gen -l partitions -d 'Use N partitions; with more than one, each record has a field `shard` for `--field partition=shard`' -r
complete -c evt-gen -l users -d 'Use this many distinct users; one record in ten has none' -r
complete -c evt-gen -l pages -d 'Use this many distinct pages' -r
complete -c evt-gen -l countries -d 'Use this many distinct countries, at most 40' -r
complete -c evt-gen -l event-types -d 'Use this many distinct event types, at most 8' -r
complete -c evt-gen -l skew -d 'Set the Zipf exponent for users, pages, countries and event types; with 0 all are equally likely' -r
complete -c evt-gen -l schema-versions -d 'Mix this many versions of the schemas: 1 or 2' -r
complete -c evt-gen -l disorder -d 'Delay events by at most this much between event time and arrival' -r
complete -c evt-gen -l late -d 'Make this share of records late: between --late-by and twice that behind the stream time of their partition' -r
complete -c evt-gen -l late-by -d 'Set the minimum delay of late records' -r
complete -c evt-gen -l duplicates -d 'Make this share of records repeat a recent one byte for byte' -r
complete -c evt-gen -l future -d 'Set the client\'s clock ahead in this share of records, by --future-by to twice that' -r
complete -c evt-gen -l future-by -d 'Set the minimum lead of clocks that are ahead' -r
complete -c evt-gen -l malformed -d 'Make this share of records invalid for evt-ingest, in twelve ways' -r
complete -c evt-gen -l invalid -d 'Make this share of records violate their schema' -r
complete -c evt-gen -l too-large -d 'Make this share of records longer than 1 MiB' -r
complete -c evt-gen -l truth -d 'Write the expected results under the rules below to FILE, as JSON' -r -F
complete -c evt-gen -l size -d 'Set the length of a window' -r
complete -c evt-gen -l slide -d 'Start a window every D [default: --size]' -r
complete -c evt-gen -l by -d 'Group by these fields: event_type, source, user_id, page, country, device' -r
complete -c evt-gen -l out-of-orderness -d 'Allow events this far behind the stream time of their partition' -r
complete -c evt-gen -l lateness -d 'Accept events until the watermark is this far past the end of a window' -r
complete -c evt-gen -l time -d 'Take the event time from server_timestamp or client_timestamp' -r
complete -c evt-gen -l max-future -d 'Reject events timestamped more than this after their server_timestamp [default: no limit]' -r
complete -c evt-gen -l dedup -d 'Treat an event_id seen within this much stream time as a duplicate [default: no dedup]' -r
complete -c evt-gen -l truth-as -d 'Expect the records to arrive as a file, or over HTTP (evt-ingest http://...), where server_timestamp is the arrival and --time must be client_timestamp' -r -f -a "file\t'As lines of a file or a pipe'
http\t'As requests over HTTP'"
complete -c evt-gen -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-gen -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-gen -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-gen -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-gen -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-gen -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-gen -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-gen -l validated -d 'Expect evt-validate to reject --invalid records'
complete -c evt-gen -l sharded -d 'Expect `shard` to be mapped to the partition'
complete -c evt-gen -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-gen -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-gen -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-gen -s V -l version -d 'Print version'
