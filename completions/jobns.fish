# What fish completes behind `jobns`. Installed as share/fish/vendor_completions.d/jobns.fish.

complete -c jobns -f
complete -c jobns -n __fish_use_subcommand -a check -d 'what is wrong with a configuration, and what it comes to'
complete -c jobns -n __fish_use_subcommand -a convert -d 'a configuration as a tidy namespace.yaml'
complete -c jobns -n __fish_use_subcommand -a list -d 'the jobs of this node, and what is left of those that are gone'
complete -c jobns -n __fish_use_subcommand -a clean -d 'remove what is left'
complete -c jobns -n __fish_use_subcommand -a enter -d 'a command in the namespaces of a live job'
complete -c jobns -n __fish_use_subcommand -a run -d 'a command in namespaces of its own, without Slurm'
complete -c jobns -n __fish_use_subcommand -a stamp -d 'a plugin for another micro release of Slurm'
complete -c jobns -n __fish_use_subcommand -a help -d 'what a command does'
complete -c jobns -n '__fish_seen_subcommand_from help' -x -a 'check convert list clean enter run stamp'
complete -c jobns -n __fish_use_subcommand -l help
complete -c jobns -n __fish_use_subcommand -l version

complete -c jobns -n '__fish_seen_subcommand_from check convert stamp' -F
complete -c jobns -n '__fish_seen_subcommand_from check convert run' -l node -x -d 'the node that it is read for'
complete -c jobns -n '__fish_seen_subcommand_from check list clean' -l format -x -a 'text json'
complete -c jobns -n '__fish_seen_subcommand_from check' -l strict -d 'warnings count'
complete -c jobns -n '__fish_seen_subcommand_from check convert' -l tmpfs -d 'it is a job_container.conf'
complete -c jobns -n '__fish_seen_subcommand_from check' -l here -d 'ask this machine, too'
complete -c jobns -n '__fish_seen_subcommand_from check' -l quiet -d 'errors only, one line each'
complete -c jobns -n '__fish_seen_subcommand_from list clean' -l node -x -d 'which node of this machine'
complete -c jobns -n '__fish_seen_subcommand_from list clean enter' -l spool -x -a '(__fish_complete_directories)' -d SlurmdSpoolDir
complete -c jobns -n '__fish_seen_subcommand_from clean' -l dry-run -d 'only show it'
complete -c jobns -n '__fish_seen_subcommand_from enter' -x -a '(jobns list 2>/dev/null | awk \'$3 == "alive" {print $1 "\t" $2}\')'
complete -c jobns -n '__fish_seen_subcommand_from run' -l config -r -d 'the configuration'
complete -c jobns -n '__fish_seen_subcommand_from run' -l job -x -d 'the job id'
complete -c jobns -n '__fish_seen_subcommand_from run' -l verbose -d 'say what is done'
complete -c jobns -n '__fish_seen_subcommand_from run' -x -a '(__fish_complete_subcommand)'
