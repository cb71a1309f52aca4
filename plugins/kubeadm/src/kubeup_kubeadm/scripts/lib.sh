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
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq -o DPkg::Lock::Timeout=120 update &&
            apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 --no-install-recommends install "$@"
    else
        dnf -q -y install "$@"
    fi
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
    left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}

api_answers() { curl -ksf -m 3 "https://127.0.0.1:$1/readyz"; }
