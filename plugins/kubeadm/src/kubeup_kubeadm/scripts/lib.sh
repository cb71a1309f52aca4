# What every script begins with. Run as root by a POSIX shell with `set -eu`.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
STATE=/var/lib/kubeup

say() { printf '%s\n' "$*"; }

fail() {
    printf 'kubeup: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# debian or rhel: which package manager, which paths
family() {
    like=$(. /etc/os-release 2>/dev/null && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
    case " $like " in
        *" debian "* | *" ubuntu "*) echo debian ;;
        *" rhel "* | *" fedora "* | *" centos "*) echo rhel ;;
        *) fail "the operating system '$like' is not supported; use Debian, Ubuntu, or one like RHEL" ;;
    esac
}

install_packages() {
    if [ "$(family)" = debian ]; then
        apt_get -qq update && apt_get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
    else
        dnf -q -y install "$@"
    fi
}

# apt-get, when nobody else has its locks any more: a machine that has just started often updates itself first. Its own time-out
# (DPkg::Lock::Timeout) knows only one of the two locks.
LOCK_SECONDS=120
apt_get() {
    waited=0
    until { said=$(DEBIAN_FRONTEND=noninteractive apt-get "$@" 2>&1 >&3 3>&-); } 3>&1; do
        holder=$(printf '%s\n' "$said" | sed -n 's/^E: Could not get lock .* It is held by process \([^)]*)\).*/\1/p' | tail -n 1)
        if [ -z "$holder" ]; then
            printf '%s\n' "$said" >&2
            return 1
        fi
        [ "$waited" -lt "$LOCK_SECONDS" ] ||
            fail "packages cannot be installed: process $holder on this machine has held apt's lock for $waited seconds; let it come to its end"
        say "waiting for process $holder, which holds apt's lock"
        sleep 5
        waited=$((waited + 5))
    done
    [ -z "$said" ] || printf '%s\n' "$said" >&2
}

# Replaces a file in one step; says by its exit code whether that changed anything.
replace() {
    if [ -f "$1" ] && cmp -s - "$1" <"$1.kubeup"; then
        rm -f "$1.kubeup"
        return 1
    fi
    mv "$1.kubeup" "$1"
}

ctr_() { ctr -n k8s.io "$@"; }

# The running containers of a static pod, by the container's name
containers_of() {
    ctr_ containers ls -q "labels.\"io.kubernetes.container.name\"==$1,labels.\"io.cri-containerd.kind\"==container" 2>/dev/null || :
}

running_of() {
    for container in $(containers_of "$1"); do
        ctr_ tasks ls 2>/dev/null | awk -v id="$container" '$1 == id && $3 == "RUNNING" {print $1}'
    done
}

# Ends a static pod's container with a signal; the kubelet starts it again
restart_component() {
    for container in $(running_of "$1"); do
        ctr_ tasks kill -s "$2" "$container" 2>/dev/null || :
    done
}

# Waits until a command succeeds: wait_for SECONDS COMMAND...
wait_for() {
    limit=$(($(uptime_) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(uptime_)" -lt "$limit" ] || return 1
        sleep 0.2
    done
}

uptime_() { cut -d . -f 1 /proc/uptime; }

api_answers() { curl -ksf -m 3 "https://127.0.0.1:$1/readyz"; }
