//! Every key there is. The reader refuses what is not here; a test holds the annotated sample against it.

/// A table of the configuration and its keys.
#[derive(Debug)]
pub(super) struct Section {
    /// As in a header: `account.imap`; empty for the top.
    pub(super) path: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const ROOT: Section =
    Section { path: "", keys: &["data_dir", "token_key", "listen", "tls", "cache", "http", "log", "account"] };

pub(super) const LISTEN: Section = Section {
    path: "listen",
    keys: &["imap", "imaps", "pop3", "pop3s", "submission", "submissions", "http", "lan", "plaintext_login"],
};

pub(super) const TLS: Section = Section { path: "tls", keys: &["dir", "names", "cert_file", "key_file"] };

pub(super) const CACHE: Section = Section { path: "cache", keys: &["max_size", "prefetch"] };

pub(super) const HTTP: Section = Section { path: "http", keys: &["token", "label_accounts", "ready_within"] };

pub(super) const LOG: Section =
    Section { path: "log", keys: &["format", "level", "audit", "audit_size", "audit_files", "otel"] };

pub(super) const OTEL: Section =
    Section { path: "log.otel", keys: &["endpoint", "headers", "service_name", "ca_file"] };

pub(super) const ACCOUNT: Section = Section {
    path: "account",
    keys: &["address", "aliases", "password", "provider", "english_names", "imap", "smtp", "limits", "pop3", "oauth2"],
};

const SERVER_KEYS: &[&str] = &["host", "port", "tls", "ca_file", "verify", "username", "password"];

pub(super) const IMAP: Section = Section { path: "account.imap", keys: SERVER_KEYS };

pub(super) const SMTP: Section = Section {
    path: "account.smtp",
    keys: &[
        "host",
        "port",
        "tls",
        "ca_file",
        "verify",
        "username",
        "password",
        "queue",
        "queue_max_messages",
        "queue_max_size",
        "queue_lifetime",
        "archive",
        "reply_to",
        "sent_copy",
    ],
};

pub(super) const LIMITS: Section = Section {
    path: "account.limits",
    keys: &[
        "connections",
        "download_per_day",
        "upload_per_day",
        "messages_per_day",
        "recipients_per_day",
        "prefetch_share",
        "sync_share",
        "reserve",
        "commands_per_second",
        "compress",
    ],
};

pub(super) const POP3: Section =
    Section { path: "account.pop3", keys: &["mailbox", "on_retr", "on_dele", "max_messages", "device_separator"] };

pub(super) const OAUTH2: Section = Section {
    path: "account.oauth2",
    keys: &[
        "client_id",
        "client_secret",
        "tenant",
        "grant",
        "key",
        "authorize_url",
        "token_url",
        "device_url",
        "scopes",
        "redirect_url",
        "ca_file",
    ],
};

/// The keys of a secret reference.
pub(super) const SECRET_KEYS: &[&str] = &["file", "env", "command", "keyring", "credential", "plain"];

/// A local password may also be given as its hash.
pub(super) const LOCAL_PASSWORD_KEYS: &[&str] =
    &["file", "env", "command", "keyring", "credential", "plain", "argon2id"];

#[cfg(test)]
pub(super) const ALL: &[&Section] =
    &[&ROOT, &LISTEN, &TLS, &CACHE, &HTTP, &LOG, &OTEL, &ACCOUNT, &IMAP, &SMTP, &LIMITS, &POP3, &OAUTH2];
