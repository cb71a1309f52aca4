# The certificate that the API server of this machine shows to those who connect; nothing where there is no openssl to ask with.
served() {
    has openssl || return 0
    openssl s_client -connect "127.0.0.1:$1" </dev/null 2>/dev/null | sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p'
}
