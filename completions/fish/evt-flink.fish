complete -c evt-flink -s m -l metrics -d 'Read the metrics to compute from FILE (evt-metrics(5))' -r
complete -c evt-flink -l agg -d 'Compute the aggregate EXPR (repeatable) [default: count(*)]' -r
complete -c evt-flink -l by -d 'Group by these columns, property paths and named expressions (comma-separated, repeatable)' -r
complete -c evt-flink -l where -d 'Aggregate only events for which EXPR is true' -r
complete -c evt-flink -l size -d 'Set the length of a window: a duration, a calendar month, quarter or year, or all, which fires at the end of the input' -r
complete -c evt-flink -l window-zone -d 'Use the calendar of this IANA time zone for --size 1d, 1w (from Monday), 1mo, 1q or 1y [default: UTC; no calendar for 1d, 1w]' -r
complete -c evt-flink -l slide -d 'Start a window every DURATION [default: --size, tumbling windows]' -r
complete -c evt-flink -l gap -d 'Use session windows that end after DURATION without an event of their key' -r
complete -c evt-flink -l lateness -d 'Accept events until the watermark is this far past the end of a window [default: 0s]' -r
complete -c evt-flink -l align -d 'Shift the start of all windows by DURATION, which may be negative' -r
complete -c evt-flink -l only -d 'Leave out all metrics but NAME (repeatable)' -r
complete -c evt-flink -l time -d 'Take the event time from a column of the records, or a path [default: server_timestamp, else event_time, else the timestamp of the record]' -r
complete -c evt-flink -l out-of-orderness -d 'Allow events this far behind the stream time of their partition [default: that of the file, else 30s]' -r
complete -c evt-flink -l since -d 'Take only events at or after INSTANT' -r
complete -c evt-flink -l to -d 'Write metrics to this topic, or to evt\'s tables in PostgreSQL (postgres://USER@HOST/DATABASE)' -r
complete -c evt-flink -l late -d 'Write late events to this topic' -r
complete -c evt-flink -l dlq -d 'Write dead letters to this topic' -r
complete -c evt-flink -l checkpoint-every -d 'Make rows visible every DURATION, at a checkpoint' -r
complete -c evt-flink -l dir -d 'Write the job, its functions and its proof to this directory [default: the job on standard output]' -r -F
complete -c evt-flink -l upgrade -d 'Write a job of the metrics alone that the one in OLD_DIR does not have, to run beside it' -r -F
complete -c evt-flink -l jar -d 'Copy the functions from this file [default: share/evt beside the directory of evt]' -r -F
complete -c evt-flink -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-flink -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-flink -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-flink -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-flink -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-flink -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-flink -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-flink -l late-partial -d 'Write events that only some of their windows counted to --late, too'
complete -c evt-flink -l overwrite -d 'Replace a job of --dir that differs'
complete -c evt-flink -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-flink -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-flink -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-flink -s V -l version -d 'Print version'
