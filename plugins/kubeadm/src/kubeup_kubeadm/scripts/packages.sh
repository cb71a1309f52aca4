# kubeadm, kubelet and kubectl from a package repository, pinned to one version and held there.
number=${VERSION#v}
if [ "$(family)" = debian ]; then
    has curl || install_packages curl ca-certificates
    mkdir -p /etc/apt/keyrings
    fetch_key /etc/apt/keyrings/kubeup-kubernetes.asc
    echo "deb [signed-by=/etc/apt/keyrings/kubeup-kubernetes.asc] $DEB" >/etc/apt/sources.list.d/kubeup-kubernetes.list
    cat >/etc/apt/preferences.d/kubeup-kubernetes <<PIN
Package: kubeadm kubelet kubectl
Pin: version $number-*
Pin-Priority: 1001
PIN
    bad='^(E:|Err:)|^W: (GPG error|Failed to fetch|Some index files)'
    if ! log=$(apt_get -q -o Dir::Etc::sourcelist=sources.list.d/kubeup-kubernetes.list \
        -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update 2>&1) || printf '%s' "$log" | grep -Eq "$bad"; then
        why=$(printf '%s' "$log" | grep -E "^kubeup: |$bad" | tail -n 1)
        case $why in "kubeup: "*) fail "${why#kubeup: }" ;; esac
        fail "the package repository $DEB does not answer, or is not signed with the expected key: $why"
    fi
    wanted=
    for package in $PACKAGES; do
        apt-cache madison "$package" 2>/dev/null | awk '{print $3}' | grep -q "^$number-" ||
            fail "the package repository $DEB has no $package $number"
        wanted="$wanted $package=$number-*"
    done
    # shellcheck disable=SC2086
    apt-mark unhold $PACKAGES >/dev/null 2>&1 || :
    get() {
        apt_get -qq -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold --no-install-recommends \
            --allow-downgrades install "$@"
    }
    # what they depend on may be in lists that the image came without
    # shellcheck disable=SC2086
    get $wanted || { apt_get -qq update && get $wanted; } || fail "the packages$wanted do not install"
    # shellcheck disable=SC2086
    apt-mark hold $PACKAGES >/dev/null
else
    fetch_key /etc/pki/rpm-gpg/kubeup-kubernetes.asc
    cat >/etc/yum.repos.d/kubeup-kubernetes.repo <<REPO
[kubeup-kubernetes]
name=Kubernetes
baseurl=$RPM
enabled=1
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/kubeup-kubernetes.asc
exclude=kubelet kubeadm kubectl
REPO
    wanted=
    for package in $PACKAGES; do wanted="$wanted $package-$number"; done
    # shellcheck disable=SC2086
    dnf -q -y --disableexcludes=kubeup-kubernetes install $wanted ||
        fail "the packages$wanted do not install from $RPM"
fi
case " $PACKAGES " in *" kubeadm "*)
    have=$(kubeadm version -o short)
    [ "$have" = "$VERSION" ] || fail "kubeadm on this machine is $have after the installation, but $VERSION was asked for: another one stands before it in PATH"
    ;;
esac
