#!/usr/bin/env bash
# The benches of an earlier commit and of this tree, by turns on the same Postgres: prints the ratio of their rates.
#   tests/postgres.sh run -- core/benches/compare.sh <commit> [turns]
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=${1:?the commit to compare with}
turns=${2:-5}
: "${DATABASE_URL:?the server to run on}"
export AGENTKEY_BENCH_SECONDS=${AGENTKEY_BENCH_SECONDS:-0.3}
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null || true; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/tree" "$commit"

# Earlier commits may be without the bench of several processes.
if ! grep -q '"processes"' "$work/tree/core/Cargo.toml"; then
	cp -r core/benches/processes "$work/tree/core/benches/"
	printf '\n[[bench]]\nname = "processes"\nharness = false\n' >>"$work/tree/core/Cargo.toml"
fi

build() { # <directory> <target directory> <bench>
	(cd "$1" && CARGO_TARGET_DIR=$2 cargo bench --quiet -p agentkey --bench "$3" --no-run --message-format json-render-diagnostics) |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}
echo "==> building the benches of $commit and of this tree"
declare -A before after
for bench in client processes; do
	before[$bench]=$(build "$work/tree" "$PWD/target/compare" $bench)
	after[$bench]=$(build . "$PWD/target" $bench)
done
for turn in $(seq "$turns"); do
	echo "==> turn $turn of $turns"
	order=(before after)
	((turn % 2)) || order=(after before)
	for which in "${order[@]}"; do
		declare -n programs=$which
		for bench in client processes; do
			"${programs[$bench]}" --bench >>"$work/$which.$turn"
		done
	done
done

rates() { # <before|after>: operation, keys, in flight, rate
	awk '
		/^(validate|charge).*\|/ && split($0, part, "|") > 3 { name = part[1]; split(part[2], rate, " "); print_rate(name, rate[1]) }
		/^(charge|reserve)[^|]* [0-9]+ +[0-9.]+x$/ { rate[1] = $(NF - 1); $NF = $(NF - 1) = ""; print_rate($0, rate[1]) }
		function print_rate(name, rate) { gsub(/ +/, " ", name); sub(/ $/, "", name); print name "\t" rate }' "$work/$1".*
}
median() { sort -t$'\t' -k1,1 -k2,2n | awk -F'\t' '
	function flush() { if (n) print name "\t" (n % 2 ? rate[(n + 1) / 2] : (rate[n / 2] + rate[n / 2 + 1]) / 2) }
	$1 != name { flush(); name = $1; n = 0 } { rate[++n] = $2 } END { flush() }'; }
printf '%-50s %10s %10s %7s\n' "calls/s, medians of $turns" "$commit" "this tree" ratio
join -t$'\t' <(rates before | median) <(rates after | median) |
	awk -F'\t' '{ printf "%-50s %10d %10d %6.2fx\n", $1, $2, $3, $3 / $2 }'
