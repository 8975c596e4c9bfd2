#!/bin/bash
# Stand-in of the official entry point: shows and sources the parts beside it in order of name,
# then becomes the command, or a shell where there is none.
shopt -s nullglob extglob
here="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
parts=("$here"/entrypoint.d/*@(.txt|.sh))
shopt -u nullglob extglob

for part in "${parts[@]}"; do
  case "$part" in
    *.txt) cat "$part" ;;
    *.sh) source "$part" ;;
  esac
done
echo

if [[ $# -eq 0 ]]; then
  set -- /bin/bash
fi
exec "$@"
