# fish completion for edge-video(1)

set -l commands run check probe watch
complete -c edge-video -f
complete -c edge-video -n "not __fish_seen_subcommand_from $commands" -a run -d 'Run the daemon'
complete -c edge-video -n "not __fish_seen_subcommand_from $commands" -a check -d 'Validate the configuration and print it'
complete -c edge-video -n "not __fish_seen_subcommand_from $commands" -a probe -d 'Ask cameras what they send'
complete -c edge-video -n "not __fish_seen_subcommand_from $commands" -a watch -d 'Show what is published'
complete -c edge-video -s c -l config -r -F -d 'The configuration'
complete -c edge-video -s V -l version -d 'Print the version'
complete -c edge-video -s h -l help -d 'Print a short help'
complete -c edge-video -n '__fish_seen_subcommand_from check' -l connect -d 'Try each broker and camera once'
complete -c edge-video -n '__fish_seen_subcommand_from probe' -l json -d 'Print one JSON object'
complete -c edge-video -n '__fish_seen_subcommand_from probe' -l discover -d 'List cameras on the local network'
complete -c edge-video -n '__fish_seen_subcommand_from watch' -l video -d "The cameras' own video"
complete -c edge-video -n '__fish_seen_subcommand_from watch' -l save -r -a '(__fish_complete_directories)' -d 'Keep the latest pictures, or the video, here'
complete -c edge-video -n '__fish_seen_subcommand_from watch' -l amqp -x -d 'This broker'
complete -c edge-video -n '__fish_seen_subcommand_from watch' -l amqp-file -r -F -d 'The broker whose URL is in this file'
complete -c edge-video -n '__fish_seen_subcommand_from watch' -l exchange -x -d 'This exchange'
