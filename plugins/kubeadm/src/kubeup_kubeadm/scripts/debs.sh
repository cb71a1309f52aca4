# The bundle's packages, without touching what is installed in the same or a newer version. Twice: dpkg unpacks in the order of names,
# and refuses a package whose pre-dependencies are only unpacked so far.
has_debs() { [ "$(family)" = debian ] && ls "$STATE/bundle/$VERSION"/debs/*.deb >/dev/null 2>&1; }
install_debs() {
    debs() { DEBIAN_FRONTEND=noninteractive dpkg --skip-same-version --refuse-downgrade -i "$STATE/bundle/$VERSION"/debs/*.deb; }
    debs >/dev/null 2>&1 || debs >/dev/null
}
