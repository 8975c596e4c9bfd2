#!/bin/bash
# Shows what the scripts beside it say, then becomes the command.
folder="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/entrypoint.d"
if [ $# -eq 0 ]; then
  set -- /bin/bash
fi
for part in "$folder"/*; do
  case "$part" in
    *.txt) cat "$part" ;;
    *.sh) source "$part" ;;
  esac
done
exec "$@"
