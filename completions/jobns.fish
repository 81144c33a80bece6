# fish completion for `jobns`. Installed as share/fish/vendor_completions.d/jobns.fish.

complete -c jobns -f
complete -c jobns -n __fish_use_subcommand -a check -d 'check a configuration and print its settings'
complete -c jobns -n __fish_use_subcommand -a convert -d 'convert a configuration to a tidy namespace.yaml'
complete -c jobns -n __fish_use_subcommand -a list -d 'list the jobs on this node, and what ended jobs have left'
complete -c jobns -n __fish_use_subcommand -a clean -d 'remove what ended jobs have left'
complete -c jobns -n __fish_use_subcommand -a enter -d 'run a command in the namespaces of a live job'
complete -c jobns -n __fish_use_subcommand -a run -d 'run a command in namespaces like those of a job, without Slurm'
complete -c jobns -n __fish_use_subcommand -a stamp -d 'make a plugin fit another micro release of Slurm'
complete -c jobns -n __fish_use_subcommand -a help -d 'print the help of a command'
complete -c jobns -n '__fish_seen_subcommand_from help' -x -a 'check convert list clean enter run stamp'
complete -c jobns -n __fish_use_subcommand -l help
complete -c jobns -n __fish_use_subcommand -l version

complete -c jobns -n '__fish_seen_subcommand_from check convert stamp' -F
complete -c jobns -n '__fish_seen_subcommand_from check convert run' -l node -x -d 'the node'
complete -c jobns -n '__fish_seen_subcommand_from check list clean' -l format -x -a 'text json'
complete -c jobns -n '__fish_seen_subcommand_from check' -l strict -d 'fail if there are warnings'
complete -c jobns -n '__fish_seen_subcommand_from check convert' -l tmpfs -d 'the file is a job_container.conf'
complete -c jobns -n '__fish_seen_subcommand_from check' -l here -d 'also check this machine'
complete -c jobns -n '__fish_seen_subcommand_from check' -l quiet -d 'print only errors, one on each line'
complete -c jobns -n '__fish_seen_subcommand_from list clean' -l node -x -d 'the node, if there are several'
complete -c jobns -n '__fish_seen_subcommand_from list clean enter' -l spool -x -a '(__fish_complete_directories)' -d SlurmdSpoolDir
complete -c jobns -n '__fish_seen_subcommand_from clean' -l dry-run -d 'remove nothing, only print'
complete -c jobns -n '__fish_seen_subcommand_from enter' -x -a '(jobns list 2>/dev/null | awk \'$3 == "alive" {print $1 "\t" $2}\')'
complete -c jobns -n '__fish_seen_subcommand_from run' -l config -r -d 'the configuration'
complete -c jobns -n '__fish_seen_subcommand_from run' -l job -x -d 'the job id'
complete -c jobns -n '__fish_seen_subcommand_from run' -l verbose -d 'print what is done'
complete -c jobns -n '__fish_seen_subcommand_from run' -x -a '(__fish_complete_subcommand)'
