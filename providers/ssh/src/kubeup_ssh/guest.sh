# What runs as root on a host of an inventory, for kubeup's provider ssh. POSIX sh; sent whole with each call, followed by one call:
# `look FOLDER GROUP BOOT`, `claim KEY`, `lookup KEY`, `release KEY FOLDER`; `make`, `up`, `down` and `remove` are for volumes.
#
#   /var/lib/kubeup-host/claim      whose the host is: its key, and the mark as JSON; written whole, read by everybody
#   /var/lib/kubeup-host/released   keys of machines that are gone: none of them is made a second time
#   /var/lib/kubeup-host/kept       why the host is kept back: nobody gets it before a person removes this file
#   /var/lib/kubeup-host/lock       held during each change
#   FOLDER/ID.json, .img, .attached a volume: what it is, its bytes (or kubeup-ID in VG), and the machine that has it
#
# Exit codes are told apart in looks.py.
set -u
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
HOME_OF_HOST=/var/lib/kubeup-host
STEPS=/var/lib/kubeup
LINKS=/dev/kubeup

TAKEN=41 BUSY=42 KEPT=43 OVER=44 NOT_OURS=45 FULL=46 IN_USE=47 MISSING=48 ELSEWHERE=49 UNABLE=50 DOWN=51

# While a host starts or goes down, what is mounted there may not be there, and a claim that is not seen is no host that is free.
# systemd says so by this file, before it takes the first mount away; root is let in all the same.
standing() {
    [ ! -e /run/nologin ] || { echo "it is starting or going down (/run/nologin)"; return $DOWN; }
}

lock() {
    standing || return
    mkdir -p "$HOME_OF_HOST" && exec 9>>"$HOME_OF_HOST/lock" && flock -w 10 9 || return $BUSY
}

# -- the host ---------------------------------------------------------------------------------------------------------

# look FOLDER GROUP BOOT: a host that has run since BOOT has the size that it had, and is not asked for it again: finding that out
# takes many processes, and hosts are looked at every second while something is going on.
look() {
    standing || return
    read -r boot </proc/sys/kernel/random/boot_id
    echo "== host"
    if [ "$3" = "$boot" ]; then
        echo "boot $boot"
    else
        size_of_host "$1" "$2"
    fi
    if [ -s "$HOME_OF_HOST/claim" ]; then echo "== claim" && cat "$HOME_OF_HOST/claim"; fi
    if [ -e "$HOME_OF_HOST/kept" ]; then echo "== kept" && cat "$HOME_OF_HOST/kept"; fi
    for record in "$1"/*.json; do
        grep -q '^{"group": .*"mark": {' "$record" 2>/dev/null || continue  # the folder may hold files of others
        id=${record##*/}
        id=${id%.json}
        echo "== volume $id" && cat "$record" && echo
        echo "size $(size "$1" "$id")"
        if attached "$1" "$id"; then echo "attached $(cat "$1/$id.attached")"; fi
    done
    standing  # still
}

size_of_host() {
    echo "cpu $(nproc)"
    echo "memory $(awk '/^MemTotal:/ { printf "%d", $2 * 1024 }' /proc/meminfo)"
    echo "disk $(df -P -B1 / | awk 'NR == 2 { print $2 }')"
    echo "arch $(uname -m)"
    echo "os $(. /etc/os-release 2>/dev/null; echo "${ID-}-${VERSION_ID-}")"
    echo "boot $boot"
    echo "address $(ip -o route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p')"
    echo "room $(room "$1" "$2")"
}

# Bytes that volumes may still take.
room() {
    if [ -n "$2" ]; then
        vgs --noheadings --units b --nosuffix -o vg_free "$2" 2>/dev/null | tr -d ' '
    else
        at=$1
        while [ ! -d "$at" ]; do at=${at%/*}; at=${at:-/}; done
        df -P -B1 "$at" | awk 'NR == 2 { print $4 }'
    fi
}

# claim KEY: the mark is stdin.
claim() {
    lock || return
    if grep -qxF "$1" "$HOME_OF_HOST/released" 2>/dev/null; then return $OVER; fi
    if [ -s "$HOME_OF_HOST/claim" ]; then
        [ "$(head -n 1 "$HOME_OF_HOST/claim")" = "$1" ] && return 0
        head -n 1 "$HOME_OF_HOST/claim"
        return $TAKEN
    fi
    if [ -e "$HOME_OF_HOST/kept" ]; then cat "$HOME_OF_HOST/kept" && return $KEPT; fi
    { echo "$1" && cat; } >"$HOME_OF_HOST/claim.new" || return $FULL
    rm -rf "$STEPS"
    sync "$HOME_OF_HOST/claim.new" 2>/dev/null
    mv "$HOME_OF_HOST/claim.new" "$HOME_OF_HOST/claim"
}

# lookup KEY: made, dead (it was that machine once), or absent.
lookup() {
    if [ "$(head -n 1 "$HOME_OF_HOST/claim" 2>/dev/null)" = "$1" ]; then
        echo made
    elif was "$1"; then
        echo dead
    else
        standing && echo absent
    fi
}

was() { grep -qxF "$1" "$HOME_OF_HOST/released" 2>/dev/null; }

# release KEY FOLDER: the host is free again, or kept back when steps were run on it and never undone.
release() {
    lock || return
    if [ ! -s "$HOME_OF_HOST/claim" ]; then return 0; fi
    if [ "$(head -n 1 "$HOME_OF_HOST/claim")" != "$1" ]; then
        if was "$1"; then return 0; fi
        head -n 1 "$HOME_OF_HOST/claim"
        return $NOT_OURS
    fi
    for held in "$2"/*.attached; do
        [ -e "$held" ] || continue
        id=${held##*/}
        put_down "$2" "${id%.attached}" || return
    done
    if [ -d "$STEPS/jobs" ] && [ ! -e "$STEPS/cleaned" ]; then
        echo "it was given back without being cleaned" >"$HOME_OF_HOST/kept" || return $FULL
    else
        rm -rf "$STEPS"
    fi
    tail -n 200 "$HOME_OF_HOST/released" 2>/dev/null >"$HOME_OF_HOST/released.new"
    echo "$1" >>"$HOME_OF_HOST/released.new" || return $FULL
    mv "$HOME_OF_HOST/released.new" "$HOME_OF_HOST/released"
    rm -f "$HOME_OF_HOST/claim"
}

# -- volumes ----------------------------------------------------------------------------------------------------------

of_group() { sed -n 's/.*"group": "\([^"]*\)".*/\1/p' "$1/$2.json"; }

# device FOLDER ID: the device that it is now, nothing while it is down.
device() {
    group=$(of_group "$1" "$2")
    if [ -n "$group" ]; then
        [ ! -e "/dev/$group/kubeup-$2" ] || readlink -f "/dev/$group/kubeup-$2"
    else
        losetup -n -O NAME -j "$1/$2.img" 2>/dev/null | head -n 1 | tr -d ' '
    fi
}

size() {
    group=$(of_group "$1" "$2")
    if [ -n "$group" ]; then
        lvs --noheadings --units b --nosuffix -o lv_size "$group/kubeup-$2" 2>/dev/null | tr -d ' '
    else
        stat -c %s "$1/$2.img" 2>/dev/null || echo 0
    fi
}

# attached FOLDER ID: it is, since the host started: links are gone then, also where LVM has made the device again by itself.
attached() { [ -s "$1/$2.attached" ] && [ -e "$LINKS/$2" ] && [ -n "$(device "$1" "$2")" ]; }

# ours FOLDER ID KEY: the volume is there, and its record has this mark.
ours() {
    [ -s "$1/$2.json" ] || return $MISSING
    key=$(sed -n 's/.*"index": \([0-9]*\),.*"installation": "\([^"]*\)".*"kind": "\([^"]*\)", "maker": "\([^"]*\)".*/\2 \3 \4 \1/p' "$1/$2.json")
    [ "$key" = "$3" ] || return $MISSING
}

# make FOLDER ID BYTES GROUP: the record is stdin; it is written first, so that what is half-made is seen.
make() {
    lock || return
    umask 077  # a folder that was there keeps its mode: it may be everybody's
    mkdir -p "$1" || return $FULL
    cat >"$1/$2.json.new" || return $FULL
    if [ -s "$1/$2.json" ]; then  # it stays where it was made
        sed -i "s/\"group\": \"[^\"]*\"/\"group\": \"$(of_group "$1" "$2")\"/" "$1/$2.json.new"
    fi
    mv "$1/$2.json.new" "$1/$2.json"
    group=$(of_group "$1" "$2")
    if [ -n "$group" ]; then
        command -v lvcreate >/dev/null || { echo "there is no LVM on this host"; return $UNABLE; }
        vgs "$group" >/dev/null 2>&1 || { echo "there is no volume group $group on this host"; return $UNABLE; }
        if ! lvs "$group/kubeup-$2" >/dev/null 2>&1; then
            lvcreate -y -q -Wn -an -L "${3}b" -n "kubeup-$2" "$group" 2>&1 || { undo "$1" "$2"; return $FULL; }
        elif [ "$(size "$1" "$2")" -lt "$3" ]; then
            lvextend -q -L "${3}b" "$group/kubeup-$2" 2>&1 || return $FULL
        fi
    elif [ "$(size "$1" "$2")" -lt "$3" ]; then
        new=yes
        [ ! -e "$1/$2.img" ] || new=
        if ! fallocate -l "$3" "$1/$2.img" 2>&1; then
            [ -z "$new" ] || undo "$1" "$2"
            return $FULL
        fi
        at=$(device "$1" "$2")
        [ -z "$at" ] || losetup -c "$at"
    fi
}

undo() { rm -f "$1/$2.img" "$1/$2.json"; }

# up FOLDER ID MACHINE KEY KEY-OF-MACHINE: it is a device, under a name that stays.
up() {
    lock || return
    ours "$1" "$2" "$4" || return
    if [ "$(head -n 1 "$HOME_OF_HOST/claim" 2>/dev/null)" != "$5" ]; then
        head -n 1 "$HOME_OF_HOST/claim" 2>/dev/null
        return $NOT_OURS
    fi
    if [ -s "$1/$2.attached" ] && [ "$(cat "$1/$2.attached")" != "$3" ]; then
        cat "$1/$2.attached"
        return $ELSEWHERE
    fi
    group=$(of_group "$1" "$2")
    if [ -n "$group" ]; then
        lvchange -ay "$group/kubeup-$2" 2>&1 || return $UNABLE
    elif [ -z "$(device "$1" "$2")" ]; then
        losetup -f "$1/$2.img" 2>&1 || return $UNABLE
    fi
    mkdir -p "$LINKS" && ln -sfn "$(device "$1" "$2")" "$LINKS/$2" && echo "$3" >"$1/$2.attached"
}

# down FOLDER ID MACHINE KEY: refused while something on the host uses it.
down() {
    lock || return
    ours "$1" "$2" "$4" || return
    [ -s "$1/$2.attached" ] || return 0
    [ "$(cat "$1/$2.attached")" = "$3" ] || return 0
    put_down "$1" "$2"
}

put_down() {
    at=$(device "$1" "$2")
    if [ -n "$at" ]; then
        if findmnt -n -S "$at" >/dev/null 2>&1; then
            findmnt -n -o TARGET -S "$at" | head -n 1
            return $IN_USE
        fi
        group=$(of_group "$1" "$2")
        if [ -n "$group" ]; then
            lvchange -an "$group/kubeup-$2" 2>&1 || return $IN_USE
        else
            losetup -d "$at" 2>&1 || return $IN_USE
        fi
    fi
    rm -f "$LINKS/$2" "$1/$2.attached"
}

# remove FOLDER ID KEY
remove() {
    lock || return
    [ -s "$1/$2.json" ] || return 0
    ours "$1" "$2" "$3" || return
    if attached "$1" "$2"; then
        cat "$1/$2.attached"
        return $IN_USE
    fi
    put_down "$1" "$2" || return
    group=$(of_group "$1" "$2")
    if [ -n "$group" ] && lvs "$group/kubeup-$2" >/dev/null 2>&1; then
        lvremove -f -q "$group/kubeup-$2" 2>&1 || return $UNABLE
    fi
    rm -f "$1/$2.img" "$1/$2.attached" "$LINKS/$2" && rm -f "$1/$2.json"
}

