#!/usr/bin/env -S bash
# Adds a service: a worker with one durable function, which up.sh starts from then on.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

# Words of Python, and modules that a service loads: one of the same name would take the place of it, or never be found.
readonly RESERVED="and as assert async await break class continue def del elif else except finally for from global if import
    in is lambda nonlocal not or pass raise return try while with yield aiohttp base64 bench calendar chaos code collections
    copy csv datetime decimal email enum flask gunicorn harness hashlib html http inspect io json locale logging math msgspec os pathlib
    platform queue random re resonate resource secrets select server signal site socket ssl statistics string struct sys
    test threading time token trace types typing urllib uuid warnings worker zipfile"

check_name() { # NAME
    [[ "$1" =~ ^[a-z][a-z0-9]{0,30}$ ]] || bad_usage "a name has lower case letters and digits, a letter first, at most 31 of them; '$1' is none"
    [ ! -e "services/$1" ] || bad_usage "there is a service '$1' already, in services/$1"
    [[ " ${RESERVED//$'\n'/ } " != *" $1 "* ]] || bad_usage "'$1' is a word of Python, or a module that services load"
}

insert_before() { # LINE TEXT FILE: before the first line that begins so
    local new
    new=$(mktemp)
    awk -v line="$1" -v text="$2" 'index($0, line) == 1 && !done { print text; done = 1 } { print } END { exit !done }' "$3" >"$new" ||
        die "$3 has no line that begins with '$1'; enter the service there by hand."
    cat "$new" >"$3"
    rm "$new"
}

read_arguments 1 "$@"
name=${words[0]:-}
check_name "$name"

for file in Dockerfile docker-compose.yml pyproject.toml requirements.lock services/services.txt services/baz/baz.py resonate-server worker; do
    [ -e "$file" ] || die "$file is missing, and a service is made from it: work in a whole checkout."
done

mkdir "services/$name"
sed "s/baz/$name/g" services/baz/pyproject.toml >"services/$name/pyproject.toml"
sed "s/baz/$name/g" services/baz/requirements.lock >"services/$name/requirements.lock"
sed -e "s/baz/$name/g" -e "1s/.*/\"\"\"$name: what it does, in one sentence.\"\"\"/" services/baz/baz.py >"services/$name/$name.py"
insert_before "    \"demo-worker\"," "    \"demo-$name\"," pyproject.toml
insert_before "demo-worker = " "demo-$name = { workspace = true }" pyproject.toml
insert_before "  resonate-server:" "  $name:
    <<: *worker
    build: { context: ., target: worker, args: { <<: *build-args, SERVICE: $name } }
" docker-compose.yml
printf '%-7s %-12s worker  %s\n' "$name" "service-$name" "$name" >>services/services.txt

cat <<NEXT
services/$name is there, and in services/services.txt, docker-compose.yml and pyproject.toml. What to do next:

  write its function:             services/$name/$name.py
  start it, beside what runs:     scripts/up.sh
  call it from another service:   await ctx.options(target="service-$name").rpc("$name")
  kill it during a request:       scripts/crash.sh $name
  add a package that it needs:    in services/$name/pyproject.toml; then scripts/lock.sh
NEXT
