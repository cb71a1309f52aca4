# What runs as root on a machine that a load balancer lives on, for kubeup's plugin haproxy. POSIX sh; sent whole with each call,
# followed by one of the calls `look`, `apply ...`, `install ...`, `remove ...`, `wipe`.
#
#   etc/kubeup/haproxy/mark         whose it is; written before anything else, removed after everything else
#   etc/kubeup/haproxy/haproxy.cfg  what runs, or will after the next start
#   etc/kubeup/haproxy/record       the wish that runs, written when HAProxy took it: a digest, the shape, JSON, who drains: a line each
#   etc/kubeup/haproxy/vip          of a pair: the address that one of the two holds; keepalived.conf, alive and let-go are beside it
#   run/kubeup-haproxy/             sockets, and health of the members for the process after the next reload
#
# KUBEUP_ROOT puts all of it under another folder, without systemd. Exit codes are told apart in hosts.py.
set -u
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
ROOT="${KUBEUP_ROOT-}"
ETC="$ROOT/etc/kubeup/haproxy"
RUN="$ROOT/run/kubeup-haproxy"
UNIT=/etc/systemd/system/haproxy.service.d/10-kubeup.conf
PATIENCE=150 # times 0.1 s

TAKEN=41 BUSY=42 MISSING=43 INVALID=44 NOT_OURS=45 FAILED=46 NOT_INSTALLED=47 OVER=99

# -- what is there ----------------------------------------------------------------------------------------------------

look() {
    [ -e "$ETC/mark" ] || return 0
    echo "== mark" && cat "$ETC/mark"
    if [ -s "$ETC/record" ]; then echo "== record" && sed -n 3p "$ETC/record"; fi
    workers=$(ask master.sock "show proc") || return 0
    echo "== running"
    if [ -s "$ETC/vip" ]; then
        if sharing; then echo "== sharing"; fi
        if holds; then echo "== holder"; fi
    fi
    echo "== now" && ask admin.sock "show stat -1 4 -1"
    for pid in $(printf '%s\n' "$workers" | old_workers); do
        echo "== before" && ask master.sock "@!$pid show stat -1 4 -1"
    done
    return 0
}

# ask SOCKET COMMAND: the answer of a running HAProxy; a failure when there is none.
ask() {
    [ -S "$RUN/$1" ] || return 1
    if command -v socat >/dev/null; then
        (cd "$RUN" && printf '%s\n' "$2" | socat -t 5 - "UNIX-CONNECT:$1" 2>/dev/null)
    else
        (cd "$RUN" && perl -MIO::Socket::UNIX -e '
            my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
            $s->print("$ARGV[1]\n"); $s->flush; shutdown($s, 1); print while <$s>;' "$1" "$2")
    fi
}

worker() { awk '/^#/ { now = ($2 == "workers") } now && $2 == "worker" { print $1 }'; }
old_workers() { awk '/^#/ { now = ($2 == "old") } now && $2 == "worker" { print $1 }'; }

# -- changes ----------------------------------------------------------------------------------------------------------

# apply OWNER DIGEST SHAPE DRAINS VIP: stdin is a tar with mark, haproxy.cfg, record and other files. DRAINS: backend/server words to
# which no new connections go. VIP: the address that a pair shares, "" for a machine that is alone.
apply() {
    lock && mine "$1" || return
    command -v haproxy >/dev/null || return $MISSING
    [ -z "$5" ] || command -v keepalived >/dev/null || return $MISSING
    foreign && return $TAKEN
    if [ "$(sed -n 1p "$ETC/record" 2>/dev/null)" = "$2" ] && ask master.sock "show proc" >/dev/null; then
        if [ -z "$5" ] || sharing; then look && return 0; fi
    fi
    mkdir -p "$ETC" "$RUN" && rm -rf "$ETC/new" && mkdir "$ETC/new" && tar -xf - -C "$ETC/new" || return $FAILED
    [ -e "$ETC/mark" ] || mv "$ETC/new/mark" "$ETC/mark"
    for file in "$ETC"/new/*.pem; do [ ! -e "$file" ] || mv "$file" "$ETC/"; done
    haproxy -C "${ROOT:-/}" -c -q -f "$ETC/new/haproxy.cfg" 2>&1 || return $INVALID
    shape=$(sed -n 2p "$ETC/record" 2>/dev/null)
    [ ! -e "$ETC/haproxy.cfg" ] || cp -p "$ETC/haproxy.cfg" "$ETC/haproxy.cfg.before"
    mv "$ETC/new/haproxy.cfg" "$ETC/haproxy.cfg"
    if ! ask master.sock "show proc" >/dev/null; then
        start || return $FAILED
    elif [ "$shape" = "$3" ] && still_drain "$4"; then
        for server in $4; do ask admin.sock "set server $server state drain"; done
    elif ! reload; then
        # The former process goes on; the next start must find what it runs.
        [ ! -e "$ETC/haproxy.cfg.before" ] || mv "$ETC/haproxy.cfg.before" "$ETC/haproxy.cfg"
        ask master.sock reload >/dev/null 2>&1
        return $FAILED
    fi
    if [ -n "$5" ]; then
        share "$5" || return $FAILED
    else
        unshare_it
    fi
    mv "$ETC/new/record" "$ETC/record"
    rm -rf "$ETC/new" "$ETC/haproxy.cfg.before"
    look
}

# install SOURCE PROGRAMS: HAProxy is fetched by a process of its own, because it may take longer than a call. stdin: a tar of packages.
install() {
    lock || return
    mkdir -p "$RUN"
    if [ -e "$RUN/install.code" ]; then
        code=$(cat "$RUN/install.code")
        if [ "$code" != 0 ] && [ -z "$(find "$RUN/install.code" -mmin +1)" ]; then
            tail -n 5 "$RUN/install.log"
            return $NOT_INSTALLED
        fi
        rm -f "$RUN/install.code" "$RUN/install.pid"
    fi
    if [ -e "$RUN/install.pid" ] && kill -0 "$(cat "$RUN/install.pid")" 2>/dev/null; then return 0; fi
    export DEBIAN_FRONTEND=noninteractive
    case $1 in
    apt)
        command -v apt-get >/dev/null || { echo "there is no apt-get on this machine"; return $NOT_INSTALLED; }
        # A machine that has just started often updates itself first; apt's own time-out knows only one of its two locks.
        do="tries=150
            until apt-get -q update && apt-get -q -y --no-install-recommends install $2; do
                tail -n 3 '$RUN/install.log' | grep -q 'Could not get lock' || exit 100
                tries=\$((tries - 1))
                [ \$tries -gt 0 ] || exit 100
                sleep 2
            done"
        ;;
    packages)
        rm -rf "$RUN/packages" && mkdir "$RUN/packages" && tar -xf - -C "$RUN/packages" || return $FAILED
        do="dpkg -i $RUN/packages/*.deb"
        ;;
    *) echo "HAProxy is not on this machine, or not all of $2"; return $NOT_INSTALLED ;;
    esac
    setsid sh -c "($do); echo \$? > '$RUN/install.code'" >"$RUN/install.log" 2>&1 </dev/null 9>&- &
    echo $! >"$RUN/install.pid"
}

# remove OWNER: the mark goes last, so that what is left of a removal that was interrupted is still seen.
remove() {
    lock || return
    [ -e "$ETC/mark" ] || return 0
    [ "$(sed -n 1p "$ETC/mark")" = "$1" ] || return $NOT_OURS
    take_off
}

# Whoever's it is: the machine is given back to its place.
wipe() {
    lock || return
    [ ! -e "$ETC/mark" ] || take_off
}

take_off() {
    unshare_it
    stop || return $FAILED
    rm -rf "$ETC/new" "$ETC/record" "$ETC"/*.pem "$ETC"/haproxy.cfg* "$RUN" && rm -f "$ETC/mark" && rmdir "$ETC"
    rmdir "$ROOT/etc/kubeup" 2>/dev/null || true
}

# -- the address of a pair ----------------------------------------------------------------------------------------------

# share VIP: keepalived runs with the new configuration. The interface is the one that has the machine's own address.
share() {
    own=$(sed -n 's/^# own //p' "$ETC/new/keepalived.conf")
    interface=$(ip -o address show to "$own" 2>/dev/null | awk 'NR == 1 { sub(/@.*/, "", $2); print $2 }')
    [ -n "$interface" ] || { echo "no interface of this machine has the address $own"; return 1; }
    sed -e "s|@INTERFACE@|$interface|g" -e "s|@ETC@|$ETC|g" "$ETC/new/keepalived.conf" >"$ETC/keepalived.next"
    if cmp -s "$ETC/keepalived.next" "$ETC/keepalived.conf" && sharing; then
        rm -f "$ETC/keepalived.next"
        return 0
    fi
    echo "$1" >"$ETC/vip"
    echo "kill -0 \"\$(cat $RUN/master.pid)\"" >"$ETC/alive"
    echo "ip -o address show to $1 | while read -r number link rest; do ip address del $1 dev \"\$link\"; done" >"$ETC/let-go"
    mv "$ETC/keepalived.next" "$ETC/keepalived.conf"
    if sharing; then
        kill -HUP "$(cat "$RUN/keepalived.pid")"
    elif systemd; then
        sharing_unit && systemctl daemon-reload && systemctl -q enable kubeup-keepalived && systemctl restart kubeup-keepalived
    else
        # What systemd does elsewhere: whenever it ends, however it ends, the address goes, and it is started again.
        setsid sh -c "while [ -e $ETC/vip ]; do keepalived $(keepalived_words); sh $ETC/let-go; sleep 1; done" \
            >>"$RUN/keepalived.log" 2>&1 </dev/null 9>&- &
    fi
    until_true sharing || { lines; return 1; }
}

keepalived_words() {
    echo "-n -l -P -f $ETC/keepalived.conf -p $RUN/keepalived.pid -r $RUN/keepalived-vrrp.pid"
}

sharing() {
    pid=$(cat "$RUN/keepalived.pid" 2>/dev/null) && grep -q keepalived "/proc/$pid/cmdline" 2>/dev/null
}

holds() { ip -o address show to "$(cat "$ETC/vip")" | grep -q .; }

sharing_unit() {
    cat >/etc/systemd/system/kubeup-keepalived.service <<EOF
# Written by kubeup: one of two machines holds the address of their load balancer. However it ends, the address goes.
[Unit]
After=network-online.target
[Service]
ExecStart=$(command -v keepalived) $(keepalived_words)
ExecReload=/bin/kill -HUP \$MAINPID
ExecStopPost=/bin/sh $ETC/let-go
KillMode=control-group
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
EOF
}

unshare_it() {
    [ -e "$ETC/vip" ] || return 0
    pid=$(cat "$RUN/keepalived.pid" 2>/dev/null)
    mv "$ETC/vip" "$ETC/vip.former"
    if systemd; then
        systemctl -q disable --now kubeup-keepalived
        rm -f /etc/systemd/system/kubeup-keepalived.service
        systemctl daemon-reload
    elif [ -n "$pid" ] && sharing; then
        kill -TERM "$pid"
        until_true not_sharing || kill -KILL "$pid"
    fi
    sh "$ETC/let-go" 2>/dev/null
    rm -f "$ETC"/keepalived* "$ETC/alive" "$ETC/let-go" "$ETC/vip.former"
}

not_sharing() { ! sharing; }

# -- below ------------------------------------------------------------------------------------------------------------

# One change at a time; the lock goes with this process. HAProxy and apt must not inherit it: 9>&-.
lock() {
    mkdir -p "$ROOT/run" "$ROOT/etc" && exec 9>"$ROOT/run/kubeup-haproxy.lock" && flock -n 9 || return $BUSY
}

mine() {
    [ -e "$ETC/mark" ] || return 0
    [ "$(sed -n 1p "$ETC/mark")" = "$1" ] && return 0
    sed -n 2p "$ETC/mark"
    return $TAKEN
}

systemd() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

# Whether all that drained before still does: bringing a member back takes a reload.
still_drain() {
    for server in $(sed -n 4p "$ETC/record"); do
        case " $1 " in *" $server "*) ;; *) return 1 ;; esac
    done
}

# A HAProxy that somebody set up: it runs, and not from the configuration that the package brought.
foreign() {
    systemd && [ ! -e "$UNIT" ] && systemctl -q is-active haproxy && [ -e /etc/haproxy/haproxy.cfg ] || return 1
    command -v dpkg-query >/dev/null || return 1
    sum=$(md5sum </etc/haproxy/haproxy.cfg | cut -d' ' -f1)
    dpkg-query -W -f='${Conffiles}\n' haproxy 2>/dev/null | grep -q "$sum" && return 1
    echo "somebody's HAProxy with /etc/haproxy/haproxy.cfg"
}

start() {
    rm -f "$RUN"/*.sock
    if systemd; then
        mkdir -p "${UNIT%/*}"
        cat >"$UNIT" <<EOF
# Written by kubeup: this HAProxy serves its load balancer, and not /etc/haproxy/haproxy.cfg.
[Service]
RuntimeDirectory=kubeup-haproxy
RuntimeDirectoryPreserve=yes
ExecStartPre=
ExecStart=
ExecStart=$(command -v haproxy) -Ws -C / -S unix@run/kubeup-haproxy/master.sock -p run/kubeup-haproxy/master.pid -f $ETC/haproxy.cfg
ExecReload=
ExecReload=$(command -v haproxy) -C / -c -q -f $ETC/haproxy.cfg
ExecReload=/bin/kill -USR2 \$MAINPID
EOF
        systemctl daemon-reload && systemctl -q enable haproxy && systemctl reset-failed haproxy && systemctl restart haproxy
    else
        (cd "${ROOT:-/}" && exec setsid haproxy -W -C "${ROOT:-/}" -S "unix@run/kubeup-haproxy/master.sock" \
            -p run/kubeup-haproxy/master.pid -f "$ETC/haproxy.cfg") >"$RUN/log" 2>&1 </dev/null 9>&- &
        began=$!
    fi
    until_true serving || { lines; return 1; }
}

serving() {
    if [ -n "${began-}" ] && ! kill -0 "$began" 2>/dev/null; then return $OVER; fi
    ask admin.sock "show info" | grep -q '^Pid:' && ask master.sock "show proc" | worker | grep -q .
}

# The new process has the listeners, and the old one takes nothing any more, when this ends well.
reload() {
    before=$(ask master.sock "show proc" | worker)
    ask admin.sock "show servers state" >"$RUN/servers.new" && mv "$RUN/servers.new" "$RUN/servers"
    ask master.sock reload >/dev/null
    until_true renewed || { lines; return 1; }
}

renewed() {
    after=$(ask master.sock "show proc") || return 1
    new=$(printf '%s\n' "$after" | worker)
    [ -n "$new" ] && [ "$new" != "$before" ] || return 1
    ask master.sock "@!$new show info" | grep -q '^Pid:' || return 1
    for pid in $(printf '%s\n' "$after" | old_workers); do
        ask master.sock "@!$pid show info" | grep -q '^Stopping: 0' && return 1
    done
    return 0
}

stop() {
    pid=$(cat "$RUN/master.pid" 2>/dev/null)
    if systemd; then
        systemctl -q disable --now haproxy
        rm -f "$UNIT" && rmdir "${UNIT%/*}" 2>/dev/null
        systemctl daemon-reload
    elif [ -n "$pid" ] && is_haproxy; then
        kill -TERM "$pid"
        until_true over || kill -KILL "$pid"
    fi
    return 0
}

# One that ended and that nobody has waited for yet has no command line any more.
is_haproxy() { grep -q haproxy "/proc/$pid/cmdline" 2>/dev/null; }
over() { ! is_haproxy; }

# until_true COMMAND: tried until it succeeds, or says that it is over.
until_true() {
    tries=0
    until "$@"; do
        [ $? -ne $OVER ] || return 1
        tries=$((tries + 1))
        [ $tries -lt $PATIENCE ] || return 1
        sleep 0.1
    done
}

lines() {
    if systemd; then journalctl -q -n 8 -o cat -u haproxy -u kubeup-keepalived; else tail -n 8 "$RUN/log"; fi
}

