#!/bin/sh
# Runs the steps of one job on the machine that it is on: once, in order, detached from whoever started it. POSIX shell, with
# flock, setsid, base64 and sha256sum (util-linux and coreutils, or busybox). Sent together with the steps; the protocol is read in
# results.py, the folder is laid out in job.py.
#
#   runner ROOT poll JOB ATTEMPT OFFSET   start it where it has to be started; then a line of state and the results from OFFSET on
#   runner ROOT put SHA256 OFFSET SIZE    append stdin to a large file; prints how many bytes are there
#   runner ROOT run JOB ATTEMPT           what poll starts
#   runner ROOT forget                    the machine's membership is over: no step counts as done any more
#
# ROOT/lock         held by the runner that runs: the kernel frees it when that is killed, or the machine reboots
# ROOT/step         process group of the step that runs, or empty: what a killed runner leaves behind is ended before the next one goes on
# ROOT/done/        a marker for each step that was done: its name and digest
# ROOT/blobs/       large files, by sha256; removed when their job is over
# ROOT/jobs/JOB/    steps/ (gone after the run: secrets are among them), blobs, results.ATTEMPT (a JSON object on each line), log/
set -u
umask 077
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=${HOME:-/root}
export PATH HOME
root=$1
command=$2
TAIL=4000

size() {
    if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

# Seconds since the machine was started, into $now.
clock() {
    read -r now rest </proc/uptime
    now=${now%%.*}
}

# When a process started, in ticks: with its id, it names one process for ever.
birth() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

# -- poll: in the caller's time, so it never waits ----------------------------------------------------------------------------

poll() {
    job=$1 attempt=$2 offset=$3
    folder=$root/jobs/$job
    results=$folder/results.$attempt
    : >>"$root/lock" || exit 1
    if over; then
        word=over
    elif (flock -n 9) 9>>"$root/lock"; then
        if [ ! -d "$folder/steps" ]; then
            word=missing
        elif needed=$(needs) && [ -n "$needed" ]; then
            word="needs $needed"
        else
            mkdir -p "$root/done" "$folder/log" || exit 1
            # Room for the words about a disk that is full later.
            if ! dd if=/dev/zero of="$root/reserve" bs=1024 count=32 2>/dev/null; then
                rm -f "$root/reserve"
                echo "no space is left in $root"
                exit 1
            fi
            setsid sh "$folder/runner" "$root" run "$job" "$attempt" </dev/null >/dev/null 2>"$folder/log/.runner" &
            word=started
        fi
    else
        running= running_attempt=
        if [ -f "$root/current" ]; then read -r running running_attempt <"$root/current"; fi
        case "$running $running_attempt" in
        "$job $attempt" | " ") word=running ;;  # it has the lock, and is about to write its name
        *) word="busy $running" ;;
        esac
    fi
    echo "kubeup-runner 1 $word"
    if [ -f "$results" ]; then tail -c "+$((offset + 1))" "$results"; fi
}

over() {
    [ -f "$results" ] && tail -n 1 "$results" | grep -q '^{"state":"\(finished\|failed\)"'
}

# Large files that are not here yet, and how much of each is, as SHA256=BYTES. Those of steps that were done are not needed.
needs() {
    while read -r sha step; do
        if [ ! -f "$root/blobs/$sha" ] && [ ! -f "$root/done/$step" ]; then
            printf '%s=%s ' "$sha" "$(size "$root/blobs/$sha.part")"
        fi
    done <"$folder/blobs"
}

put() {
    sha=$1 offset=$2 whole=$3
    part=$root/blobs/$sha.part
    mkdir -p "$root/blobs"
    if [ -f "$root/blobs/$sha" ]; then
        echo "$whole"
        exit 0
    fi
    exec 8>>"$part"
    if ! flock -n 8; then
        echo "busy"
        exit 0
    fi
    if [ "$(size "$part")" -eq "$offset" ]; then
        cat >&8 || exit 1
    fi
    if [ "$(size "$part")" -ge "$whole" ]; then
        if [ "$(sha256sum <"$part" | cut -d ' ' -f 1)" != "$sha" ]; then
            rm -f "$part"
            echo "what arrived does not have the sha256 $sha"
            exit 3
        fi
        mv "$part" "$root/blobs/$sha"
        echo "$whole"
        exit 0
    fi
    size "$part"
}

# -- run: detached --------------------------------------------------------------------------------------------------------

run() {
    job=$1 attempt=$2
    folder=$root/jobs/$job
    results=$folder/results.$attempt
    exec 9>>"$root/lock"
    flock -n 9 || { sleep 1; flock -n 9; } || exit 0
    if over || [ ! -d "$folder/steps" ]; then exit 0; fi
    echo "$job $attempt" >"$root/current"
    end_leftover
    # A runner that was killed in the middle of a line.
    if [ -s "$results" ] && [ -n "$(tail -c 1 "$results")" ]; then echo >>"$results"; fi
    total=$(ls "$folder/steps" | wc -l | tr -d ' ')
    number=0
    for step in "$folder"/steps/*/; do
        step=${step%/}
        number=$((number + 1))
        read -r name digest limit <"$step/about"
        if ! one; then
            end failed
            exit 1
        fi
    done
    while read -r sha rest; do rm -f "$root/blobs/$sha"; done <"$folder/blobs"
    end finished
}

end() {
    rm -rf "$folder/steps" "$root/reserve"
    tell "{\"state\":\"$1\"}"
    # The logs of the last jobs stay.
    ls -1t "$root/jobs" | tail -n +21 | while read -r old; do rm -rf "${root:?}/jobs/$old"; done
}

# One step: 0 when it was done, now or before.
one() {
    marker=$root/done/$name-$digest
    log=$folder/log/$name
    clock
    began=$now
    code=0
    tell "{\"step\":\"$name\",\"state\":\"running\",\"number\":$number,\"total\":$total}"
    : >"$log"
    if [ -s "$step/check" ]; then
        if limited "$step/check"; then
            done_ skipped
            return 0
        fi
        rm -f "$marker"
        : >"$log"
    elif [ -f "$marker" ]; then
        done_ skipped
        return 0
    fi
    if [ -s "$step/files" ] && ! (put_files) 9>&- >>"$log" 2>&1; then
        code=1
        done_ failed
        return 1
    fi
    limited "$step/script"
    if [ -f "$folder/late" ]; then
        rm -f "$folder/late"
        done_ late
        return 1
    elif [ "$code" -ne 0 ]; then
        done_ failed
        return 1
    fi
    if ! : >"$marker"; then
        echo "its marker $marker cannot be written" >>"$log"
        code=1
        done_ failed
        return 1
    fi
    done_ done
}

done_() {
    clock
    tail=
    if [ -s "$log" ]; then tail=$(tail -c "$TAIL" "$log" | base64 | tr -d '\n'); fi
    tell "{\"step\":\"$name\",\"state\":\"$1\",\"exit\":$code,\"seconds\":$((now - began)),\"tail\":\"$tail\"}"
}

tell() {
    if ! printf '%s\n' "$1" 2>/dev/null >>"$results"; then
        rm -f "$root/reserve"
        printf '\n%s\n' "$1" >>"$results" || exit 75
    fi
}

# What a step's shell does first: it writes down who it is, and goes on only as long as the runner that began it is its parent. So
# whenever that runner is killed, either the next one finds the step, or the step never runs.
# shellcheck disable=SC2016
BEGIN='
script=$1 note=$2 runner=$3
mine() { read -r stat <"/proc/$$/stat"; set -- ${stat##*) }; born=${20}; [ "$2" = "$runner" ]; }
mine || exit 1
echo "$$ $born" >"$note"
mine || exit 1
exec sh -eu "$script"
'

# Ends a step whose time is over. It may outlive a runner that was killed, so it looks who its step is before it ends anybody.
# shellcheck disable=SC2016
GUARD='
sleep "$1"
late=$2 child=$3 note=$4 tries=0
until [ -s "$note" ] || [ "$tries" -ge 30 ]; do sleep 1; tries=$((tries + 1)); done
read -r who born <"$note" || exit 0
[ "$who $born" = "$child $(sed "s/.*) //" "/proc/$child/stat" | cut -d " " -f 20)" ] || exit 0
: >"$late"
kill -TERM "-$child"
sleep 5
kill -KILL "-$child"
'

# Runs a shell script as a session of its own, so that all of it can be ended when its time is over. Its exit code is in $code.
limited() {
    if [ -f "$folder/late" ]; then rm -f "$folder/late"; fi
    (cd / && umask 022 && exec setsid sh -c "$BEGIN" step "$1" "$root/step" "$$") </dev/null >>"$log" 2>&1 9>&- &
    child=$!
    setsid sh -c "$GUARD" guard "$limit" "$folder/late" "$child" "$root/step" </dev/null >/dev/null 2>&1 9>&- &
    guard=$!
    wait "$child"
    code=$?
    # By its own id as well: it may not have come to be a session yet.
    kill -KILL "-$guard" 2>/dev/null
    kill -KILL "$guard" 2>/dev/null
    wait "$guard" 2>/dev/null
    : >"$root/step"
    return "$code"
}

# A runner that was killed, alone: its step may still run.
end_leftover() {
    if [ -s "$root/step" ]; then
        read -r child born <"$root/step"
        if [ -n "${born:-}" ] && [ "$(birth "$child")" = "$born" ]; then
            kill -KILL "-$child" 2>/dev/null
        fi
        rm -f "$root/step"
    fi
}

# Each line of `files`: mode, kind (content, blob), public or secret, where the bytes are, path.
put_files() {
    while read -r mode kind privacy bytes path; do
        above=${path%/*}
        new=$path.kubeup-new
        if [ "$privacy" = public ]; then umask 022; fi
        mkdir -p "${above:-/}" || exit 1
        umask 077
        rm -f "$new"
        if [ "$kind" = blob ]; then
            if [ ! -f "$root/blobs/$bytes" ]; then
                echo "$path has to be sent again"
                exit 1
            fi
            ln "$root/blobs/$bytes" "$new" 2>/dev/null || cp "$root/blobs/$bytes" "$new" || exit 1
        else
            cat "$step/$bytes" >"$new" || exit 1
        fi
        chmod "$mode" "$new" && mv -f "$new" "$path" || exit 1
    done <"$step/files"
}

case $command in
poll) poll "$3" "$4" "$5" ;;
put) put "$3" "$4" "$5" ;;
run) run "$3" "$4" ;;
forget) rm -rf "$root/done" "$root/blobs" ;;
*)
    echo "no such command: $command"
    exit 2
    ;;
esac
