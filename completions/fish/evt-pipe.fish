complete -c evt-pipe -s f -l file -d 'Read the pipeline from FILE' -r -F
complete -c evt-pipe -l threads -d 'Use N threads for the records of all stages together [default: the cores, at most 16]' -r
complete -c evt-pipe -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-pipe -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-pipe -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-pipe -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-pipe -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-pipe -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-pipe -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-pipe -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-pipe -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-pipe -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-pipe -s V -l version -d 'Print version'
