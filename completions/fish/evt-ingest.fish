complete -c evt-ingest -l where -d 'Keep only events for which EXPR is true' -r
complete -c evt-ingest -l let -d 'Compute property NAME of each event; later ones and --where may read it (repeatable)' -r
complete -c evt-ingest -l tokens -d 'Accept only requests with a token from FILE, which is reloaded on SIGHUP' -r -F
complete -c evt-ingest -l tls-cert -d 'Read the certificate chain for https:// from a PEM file' -r -F
complete -c evt-ingest -l tls-key -d 'Read the private key of the certificate from a PEM file' -r -F
complete -c evt-ingest -l max-connections -d 'Limit the number of open connections' -r
complete -c evt-ingest -l idle-timeout -d 'Close connections that are idle this long between requests' -r
complete -c evt-ingest -l head-timeout -d 'Limit the time to receive the head of a request; for the first one it begins with the connection' -r
complete -c evt-ingest -l request-timeout -d 'Limit the time to receive a request body, and then the time to store it' -r
complete -c evt-ingest -l rate -d 'Limit events per second over all tokens' -r
complete -c evt-ingest -l schemas -d 'Validate events against this directory or registry of schemas before answering' -r
complete -c evt-ingest -l subject -d 'Take the subject from a column or path, or use TEXT for all events (=TEXT)' -r
complete -c evt-ingest -l max-body -d 'Limit the size of a request body, compressed and decompressed' -r
complete -c evt-ingest -l max-pending -d 'Limit the memory of all request bodies being processed' -r
complete -c evt-ingest -l spool -d 'Store requests in DIR and acknowledge them once they are on disk' -r -F
complete -c evt-ingest -l spool-max -d 'Limit the size of the spool [default: 4GiB]' -r
complete -c evt-ingest -l dedup -d 'Treat an event whose event_id arrives again within this time as a duplicate' -r
complete -c evt-ingest -l ack -d 'Choose when to acknowledge events without a spool [default: output]' -r -f -a "output\t'When the outputs have stored it'
memory\t'When it is in memory; a crash loses it'"
complete -c evt-ingest -l checkpoint -d 'Keep state and positions in a directory or a bucket of S3, and write each row once, whatever stops the run (evt-checkpoint(5))' -r -F
complete -c evt-ingest -l checkpoint-every -d 'End an epoch, whose rows become visible together, every DURATION' -r
complete -c evt-ingest -l keep-epochs -d 'Keep the last N complete epochs' -r
complete -c evt-ingest -l restore -d 'Continue from the K-th epoch before the last one, such as n-1 if the last one is damaged; outputs without keys get rows twice' -r
complete -c evt-ingest -l ends -d 'Expect N last stages, because tee(1) splits the pipe' -r
complete -c evt-ingest -l since -d 'Take only rows at or after INSTANT, by event_time, window_start, failed_at or since' -r
complete -c evt-ingest -l until -d 'Take only rows before INSTANT' -r
complete -c evt-ingest -l last -d 'Take only rows of the last DURATION, like --since now-DURATION' -r
complete -c evt-ingest -s f -l input-format -d 'Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]' -r
complete -c evt-ingest -l kind -d 'Set the kind of the rows: event metric dead late alert [default: detected]' -r
complete -c evt-ingest -l delimiter -d 'Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]' -r
complete -c evt-ingest -l header -d 'Name the fields of CSV without a header (comma-separated)' -r
complete -c evt-ingest -l explode -d 'Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c' -r
complete -c evt-ingest -l time-year -d 'Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next year' -r
complete -c evt-ingest -l encoding -d 'Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]' -r
complete -c evt-ingest -l field -d 'Copy the field PATH of each record into COLUMN (repeatable)' -r
complete -c evt-ingest -l set -d 'Set COLUMN to TEXT in each event (repeatable)' -r
complete -c evt-ingest -l time -d 'Take the event time from a column or path (of several with commas, the first with a value), an expression (=EXPR), or the clock (arrival)' -r
complete -c evt-ingest -l time-unit -d 'Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]' -r
complete -c evt-ingest -l time-format -d 'Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]' -r
complete -c evt-ingest -l time-zone -d 'Use this IANA time zone for times without an offset [default: UTC]' -r
complete -c evt-ingest -l min-time -d 'Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]' -r
complete -c evt-ingest -l max-future -d 'Reject events timestamped more than this after arrival' -r
complete -c evt-ingest -l require -d 'Reject records in which one of these fields is missing or null (comma-separated)' -r
complete -c evt-ingest -l origin -d 'Use NAME as the origin instead of the name of the input' -r
complete -c evt-ingest -l partitions -d 'List every partition in advance, if --field maps partitions (comma-separated)' -r
complete -c evt-ingest -l to -d 'Write rows to URI (repeatable); - is standard output' -r
complete -c evt-ingest -s o -l output-format -d 'Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]' -r
complete -c evt-ingest -l dlq -d 'Write dead letters to URI; without it they are reported and dropped' -r
complete -c evt-ingest -l report -d 'Report the first N faulty records on stderr, or all [default: 10, then a count per minute]' -r
complete -c evt-ingest -l max-record -d 'Limit the size of a record; a longer one becomes a dead letter' -r
complete -c evt-ingest -l max-decompression-ratio -d 'Fail if an input of more than 100 MiB decompressed is more than N times its compressed size' -r
complete -c evt-ingest -l threads -d 'Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]' -r
complete -c evt-ingest -l kafka-config -d 'Read librdkafka settings for all topics from FILE, one NAME=VALUE per line' -r
complete -c evt-ingest -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-ingest -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-ingest -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-ingest -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-ingest -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-ingest -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-ingest -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-ingest -l follow -d 'Keep reading as files grow, through rotation and truncation'
complete -c evt-ingest -l keep-raw -d 'Add the raw record to each event, as column raw'
complete -c evt-ingest -l anonymous -d 'Accept requests without a token'
complete -c evt-ingest -l log-requests -d 'Log one line per request'
complete -c evt-ingest -l no-extra-fields -d 'Reject properties that the schema does not define'
complete -c evt-ingest -l control -d 'Read control lines in JSONL; only they advance the watermark'
complete -c evt-ingest -l no-header -d 'Read the first line of CSV as a record; its fields are c1, c2, …'
complete -c evt-ingest -l plain -d 'Make every field of a record a property; only --field and --set fill columns'
complete -c evt-ingest -l hash-ids -d 'Derive a UUID from source and event_id when event_id is not a UUID'
complete -c evt-ingest -l overwrite -d 'Replace output files that exist'
complete -c evt-ingest -l append -d 'Add rows to output files of text that exist'
complete -c evt-ingest -l strict -d 'Exit with status 1 if any record became a dead letter'
complete -c evt-ingest -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-ingest -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-ingest -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-ingest -s V -l version -d 'Print version'
