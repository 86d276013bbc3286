//! config

/// How the connection to a server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Plain at first, TLS by the protocol's own command; without it the connection is given up.
    StartTls,
    /// No encryption.
    None,
}
