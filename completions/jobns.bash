# shellcheck shell=bash
# What bash completes behind `jobns`. Installed as share/bash-completion/completions/jobns.

_jobns() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} i
	local commands='check list clean enter run stamp'
	local -A options=(
		[check]='--node --format --strict --tmpfs --here'
		[list]='--node --spool --format'
		[clean]='--dry-run --format --node --spool'
		[enter]='--spool'
		[run]='--config --node --job --verbose'
		[stamp]=''
	)
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$word")
		return
	fi
	case $before in
	--format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word") && return ;;
	--spool) mapfile -t COMPREPLY < <(compgen -d -- "$word") && return ;;
	--config) mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
	--node | --job) return ;;
	esac
	# Behind the command that `run` and `enter` are for, it is that command's turn.
	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[1]}:${COMP_WORDS[i]} in
		run:-- | enter:--)
			if ((COMP_CWORD == i + 1)); then
				mapfile -t COMPREPLY < <(compgen -c -- "$word")
			else
				mapfile -t COMPREPLY < <(compgen -f -- "$word")
			fi
			return
			;;
		esac
	done
	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${options[${COMP_WORDS[1]}]-}" -- "$word")
		return
	fi
	case ${COMP_WORDS[1]} in
	check | stamp) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	run) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
	enter) # the live jobs, where root asks
		mapfile -t COMPREPLY < <(compgen -W "$(jobns list 2>/dev/null | awk '$3 == "alive" {print $1}')" -- "$word")
		;;
	esac
}
complete -o filenames -F _jobns jobns
