complete -c evt-serve -l from -d 'Answer from this store (repeatable, in the order of preference); ?span=DURATION: only with windows that ended within it' -r
complete -c evt-serve -s m -l metrics -d 'Read how metrics are computed from FILE, to warn of sums that have no meaning (evt-metrics(5))' -r
complete -c evt-serve -l refresh -d 'Read the names and dimensions of metrics, and the corrections of stores, again after DURATION' -r
complete -c evt-serve -l max-windows -d 'Limit the number of windows of an answer' -r
complete -c evt-serve -l lookback -d 'In PromQL, show a window for DURATION after its end [default: until the next one]' -r
complete -c evt-serve -l host -d 'Answer requests for this host name, too, beside addresses and localhost (repeatable)' -r
complete -c evt-serve -l tokens -d 'Accept only requests with a token from FILE, which is reloaded on SIGHUP' -r -F
complete -c evt-serve -l tls-cert -d 'Read the certificate chain for https:// from a PEM file' -r -F
complete -c evt-serve -l tls-key -d 'Read the private key of the certificate from a PEM file' -r -F
complete -c evt-serve -l max-connections -d 'Limit the number of open connections' -r
complete -c evt-serve -l idle-timeout -d 'Close connections that are idle this long between requests' -r
complete -c evt-serve -l head-timeout -d 'Limit the time to receive the head of a request; for the first one it begins with the connection' -r
complete -c evt-serve -l request-timeout -d 'Limit the time to receive a request body, and then the time to store it' -r
complete -c evt-serve -l stats -d 'Write the summary to FILE as JSON' -r
complete -c evt-serve -l now -d 'Use INSTANT as the current time, for repeatable output' -r
complete -c evt-serve -l pipeline -d 'Set the name of the pipeline in control messages, logs and metrics' -r
complete -c evt-serve -l config -d 'Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]' -r
complete -c evt-serve -l prometheus -d 'Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds' -r
complete -c evt-serve -l log-format -d 'Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)' -r -f -a "text\t'One line of text each'
json\t'One JSON object a line, with the ids of the run, the pipeline and the trace'
github\t'Commands that GitHub\'s workflows show at the lines of files'"
complete -c evt-serve -l color -d 'Use colour on a terminal (auto), always or never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c evt-serve -l anonymous -d 'Accept requests without a token'
complete -c evt-serve -l log-requests -d 'Log one line per request'
complete -c evt-serve -s q -l quiet -d 'Suppress the summary, notices and progress, but neither errors nor losses'
complete -c evt-serve -l check -d 'Verify that all inputs and outputs are reachable, then exit; no data is read or written'
complete -c evt-serve -s h -l help -d 'Print help (see more with \'--help\')'
complete -c evt-serve -s V -l version -d 'Print version'
