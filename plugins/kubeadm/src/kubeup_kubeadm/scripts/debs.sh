# The bundle's packages, without touching what is installed in the same or a newer version. Several times: dpkg unpacks in the order of
# names, and refuses what pre-depends on something that is only unpacked so far (python3, python3-minimal, python3.11-minimal).
has_debs() { [ "$(family)" = debian ] && ls "$STATE/bundle/$VERSION"/debs/*.deb >/dev/null 2>&1; }
install_debs() {
    debs() { DEBIAN_FRONTEND=noninteractive dpkg --skip-same-version --refuse-downgrade -i "$STATE/bundle/$VERSION"/debs/*.deb; }
    debs >/dev/null 2>&1 || debs >/dev/null 2>&1 || debs >/dev/null 2>&1 || debs >/dev/null
}
