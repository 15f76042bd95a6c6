# bash completion for edge-video(1)

_edge_video() {
	local cur prev word command=''
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $word in
		run | check | probe | watch) command=$word ;;
		esac
	done
	case $prev in
	-c | --config | --amqp-file)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--save)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--amqp | --exchange) return ;;
	esac
	case $command in
	'') mapfile -t COMPREPLY < <(compgen -W 'run check probe watch --config --version --help' -- "$cur") ;;
	watch) mapfile -t COMPREPLY < <(compgen -W '--video --save --amqp --amqp-file --exchange --config --help' -- "$cur") ;;
	probe) mapfile -t COMPREPLY < <(compgen -W '--json --discover --config --help' -- "$cur") ;;
	check) mapfile -t COMPREPLY < <(compgen -W '--connect --config --help' -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -W '--config --help' -- "$cur") ;;
	esac
} &&
	complete -F _edge_video edge-video
