#!/bin/sh
# Runs the jobs that came with a machine's user-data, one after another, through their runner. Started at each boot, so that a machine
# that reboots in the middle goes on; when all is done, or its tries are over, it leaves nothing to start. What is in the folder,
# seed.py says.
#
#   start ROOT TRIES       begins, detached: nobody's boot waits for it
#   start ROOT TRIES run   TRIES of each job at most; 0: for ever, where nobody else could try again
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
root=$1
tries=$2
here=$root/boot
console=${KUBEUP_CONSOLE:-/dev/console}
PAUSE=1

say() {
    echo "kubeup: $*"
    echo "kubeup: $*" 2>/dev/null >>"$console"
}

# The jobs of this machine, by what it is called or by its number in the launch.
mine() {
    if [ "$(wc -l <"$here/members" | tr -d ' ')" = 1 ]; then
        read -r index name jobs <"$here/members"
        echo "$jobs"
        return 0
    fi
    me=$(sh "$here/whoami" 2>/dev/null | head -n 1)
    while read -r index name jobs; do
        case $me in
        "$name" | "$name".* | "$index")
            echo "$jobs"
            return 0
            ;;
        esac
    done <"$here/members"
    return 1
}

# Puts a job where its runner looks for it, as unpack_script in job.py does.
put() {
    mkdir -p "$root/jobs/$1" && new=$(mktemp -d "$root/jobs/.new-XXXXXX") || return 1
    if tar -xzf "$here/seed" -C "$new" "jobs/$1" runner; then
        (
            flock 8
            if [ ! -d "$root/jobs/$1/steps" ]; then
                mv -f "$new/runner" "$new/jobs/$1/blobs" "$root/jobs/$1/" && mv "$new/jobs/$1/steps" "$root/jobs/$1/steps"
            fi
        ) 8>>"$root/jobs.lock"
    fi
    rm -rf "$new"
}

ask() {
    if [ -f "$root/jobs/$1/runner" ]; then
        sh "$root/jobs/$1/runner" "$root" poll "$1" "$2" 0 2>&1 7>&-
    else
        echo "kubeup-runner 1 missing"
    fi
}

# One job to its end: 0 when it is finished.
job() {
    attempt=1
    wait=5
    while :; do
        said=$(ask "$1" "$attempt")
        case $(printf '%s\n' "$said" | tail -n 1) in
        '{"state":"finished"}') return 0 ;;
        '{"state":"failed"}')
            failed "$(printf '%s\n' "$said" | grep '"state":"\(failed\|late\)","exit"' | tail -n 1)"
            if [ "$attempt" = "$tries" ]; then return 1; fi
            attempt=$((attempt + 1))
            sleep "$wait"
            wait=$((wait < 60 ? wait * 2 : 60))
            continue
            ;;
        esac
        case $said in
        "kubeup-runner 1 missing"*) put "$1" || sleep "$PAUSE" ;;
        "kubeup-runner 1 "*) sleep "$PAUSE" ;;
        *)
            say "$said"
            sleep 15
            ;;
        esac
    done
}

# Which step it was, and its last lines.
failed() {
    say "step $(printf '%s' "$1" | sed 's/^{"step":"\([^"]*\)".*/\1/') failed"
    printf '%s' "$1" | sed 's/.*"tail":"\([^"]*\)".*/\1/' | base64 -d 2>/dev/null | tail -n 5 | while read -r line; do
        say "  $line"
    done
}

if [ "${3:-}" != run ]; then
    setsid sh "$here/start" "$root" "$tries" run </dev/null >>"$here/log" 2>&1 &
    exit 0
fi
exec 7>>"$here/lock"
flock -n 7 || exit 0
if [ ! -f "$here/seed" ]; then exit 0; fi
until jobs=$(mine); do
    say "this machine does not know yet which one it is"
    sleep 5
done
code=0
for name in $jobs; do
    if ! job "$name"; then
        code=1
        break
    fi
done
# A token may be in it.
rm -f "$here/seed"
if [ "$code" = 0 ]; then say "all steps of its user-data were done"; fi
exit "$code"
