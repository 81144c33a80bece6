# shellcheck shell=bash
# bash completion for `jobns`. Installed as share/bash-completion/completions/jobns.

_jobns() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} i
	local commands='check convert list clean enter run stamp'
	local -A options=(
		[check]='--node --format --strict --tmpfs --here --quiet'
		[convert]='--node --tmpfs'
		[list]='--node --spool --format'
		[clean]='--dry-run --format --node --spool'
		[enter]='--spool'
		[run]='--config --node --job --verbose'
		[stamp]=''
	)
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$commands help --help --version" -- "$word")
		return
	fi
	# bash splits --format=json into --format, =, json.
	if [[ $word == = ]]; then
		word=''
	elif [[ $before == = ]]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	# Options of jobns end where the command of `run` or `enter` starts.
	local operands=0 needed dashes='' spool=()
	case ${COMP_WORDS[1]} in run) needed=0 ;; enter) needed=1 ;; *) needed=1000 ;; esac
	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) dashes=1 ;;
		--spool | --config | --node | --job | --format)
			if [[ $dashes ]] || ((operands > needed)); then continue; fi
			if [[ ${COMP_WORDS[i + 1]} == = ]]; then ((i++)); fi
			((i++))
			if [[ ${COMP_WORDS[i - 1]} == --spool || ${COMP_WORDS[i - 2]} == --spool ]]; then spool=(--spool "${COMP_WORDS[i]}"); fi
			;;
		-*) if [[ $dashes ]] || ((operands > needed)); then ((operands++)); fi ;;
		*) ((operands++)) ;;
		esac
	done
	if [[ ! $dashes ]] && ((operands <= needed)); then
		case $before in
		--format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word") && return ;;
		--spool) mapfile -t COMPREPLY < <(compgen -d -- "$word") && return ;;
		--config) mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
		--node | --job) return ;;
		esac
		if [[ $word == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "${options[${COMP_WORDS[1]}]-}" -- "$word")
			return
		fi
	fi
	case ${COMP_WORDS[1]} in
	check | convert | stamp) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	help) if ((COMP_CWORD == 2)); then mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word"); fi ;;
	run | enter)
		if ((operands < needed)); then # the live jobs, if root completes
			mapfile -t COMPREPLY < <(compgen -W "$(jobns list "${spool[@]}" 2>/dev/null | awk '$3 == "alive" {print $1}')" -- "$word")
		elif ((operands == needed)); then
			mapfile -t COMPREPLY < <(compgen -c -- "$word")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
		fi
		;;
	esac
}
complete -o filenames -F _jobns jobns
