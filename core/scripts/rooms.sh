#!/usr/bin/env bash
# The rooms of core/src: imports go one way, the root stays small, and no file holds two ideas.
set -euo pipefail
cd "$(dirname "$0")/../src"

# A room, and the rooms that it may import. What every room may use stands beside them in src/.
allowed() {
    case $1 in
    budget) ;;
    key) echo budget ;;
    table) echo "key budget" ;;
    engine) echo "table key budget" ;;
    http) echo "engine key budget" ;;
    client) echo "engine key budget" ;;
    tower) echo "client http engine key budget" ;;
    cli) echo "client engine key budget" ;;
    bin) ;;
    *) echo "core/src/$1 is a room that core/scripts/rooms.sh does not know" >&2; exit 1 ;;
    esac
}

status=0
for directory in */; do
    room=${directory%/}
    may=" $room $(allowed "$room") error duration id metadata random time Error ErrorCode AgentKey "
    while IFS=: read -r file line text; do
        other=$(sed -E 's/.*crate::([A-Za-z_]+).*/\1/' <<<"$text")
        if [[ $may != *" $other "* ]]; then
            echo "core/src/$file:$line: $room must not import $other" >&2
            status=1
        fi
    done < <(grep -rnE 'crate::[A-Za-z_]+' --include='*.rs' "$room" | grep -vE '^[^:]+:[0-9]+: *//' | grep -v '/tests')
done

names=$(sed -n '/^pub use/,/;/p;/^pub mod/p' lib.rs | tr -d '\n' | sed -E 's/pub (use|mod)[^;{]*\{/\n/g; s/pub mod [a-z_]+;/\n&/g' | tr '{},;' '\n' |
    sed -E 's/^ *(pub (use|mod) )?([a-z_]+::)*//; s/ //g' | grep -cE '^[A-Za-z_]+$')
if ((names > 42)); then
    echo "core/src/lib.rs exports $names names, more than 42" >&2
    status=1
fi

while read -r lines file; do
    if [[ $file != total ]] && ((lines > 400)); then
        echo "core/src/$file has $lines lines, more than 400" >&2
        status=1
    fi
done < <(find . -name '*.rs' -exec wc -l {} +)
exit $status
