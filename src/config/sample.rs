//! Tests that hold the annotated sample against the schema, and the reader against tables of good and bad files.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::schema;

const SAMPLE: &str = include_str!("../../config/mailweir.toml");

/// The sample with every `#key = …` and `#[table]` switched on.
fn everything_on() -> String {
    let is_key = |rest: &str| {
        let word: String =
            rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit()).collect();
        rest.starts_with('[') || (!word.is_empty() && rest.get(word.len()..).is_some_and(|r| r.starts_with(" = ")))
    };
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    SAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A directory with the files the sample names.
fn sample_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ca.pem", "fullchain.pem", "privkey.pem"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    dir
}

fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    Config::parse(Path::new("/etc/mailweir.toml"), text)
}

/// A valid file to which a test adds its own lines.
fn with_account(more: &str) -> String {
    format!(
        "[listen]\nimap = [\"127.0.0.1:0\"]\n[[account]]\naddress = \"ann@example.org\"\npassword = {{ plain = \"local\" }}\n{more}"
    )
}

#[test]
fn the_sample_loads_as_it_is_and_with_every_key_on() {
    let dir = sample_dir();
    let path = dir.path().join("mailweir.toml");
    // What the sample's own host and a service account's key do not go with.
    let all = everything_on().replace("provider = \"gmail\"", "provider = \"fastmail\"");
    let all = all.replace("grant = \"user\"", "grant = \"service-account\"");
    for text in [SAMPLE.to_owned(), all] {
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert_eq!(config.accounts.len(), 1);
        assert_eq!(config.accounts[0].imap.host, "imap.example.org");
        assert_eq!(config.warnings, [], "the sample must not teach anything unwise");
    }
}

#[test]
fn the_sample_has_every_key_and_no_other() {
    let text = everything_on();
    let root: toml::Table = text.parse().unwrap();
    for section in schema::ALL {
        let mut value = toml::Value::Table(root.clone());
        for part in section.path.split('.').filter(|p| !p.is_empty()) {
            value = value.get(part).cloned().unwrap_or_else(|| panic!("the sample has no [{}]", section.path));
            if let Some(first) = value.as_array().map(|a| a[0].clone()) {
                value = first;
            }
        }
        let mut found: Vec<_> = value.as_table().unwrap().keys().map(String::as_str).collect();
        let mut want = section.keys.to_vec();
        found.sort_unstable();
        want.sort_unstable();
        assert_eq!(found, want, "[{}]", section.path);
    }
}

#[test]
fn defaults_shown_in_the_sample_are_the_defaults() {
    let shown = {
        let dir = sample_dir();
        let path = dir.path().join("mailweir.toml");
        // These lines are examples, not defaults.
        let examples = [
            "data_dir",
            "token_key",
            "token =",
            "dir =",
            "names",
            "cert_file",
            "key_file",
            "aliases",
            "archive",
            "reply_to",
            "sent_copy",
            "provider",
            "username",
            "ca_file",
            "max_messages",
            "commands_per_second",
            "[log.otel]",
            "endpoint",
            "headers",
            "service_name",
        ];
        let text: Vec<_> = everything_on()
            .lines()
            .filter(|l| !examples.iter().any(|e| l.starts_with(e)) && !l.contains("_per_day"))
            .map(str::to_owned)
            .collect();
        let text = text.join("\n");
        // Without [account.oauth2], which is the last table.
        Config::parse(&path, text.split("[account.oauth2]").next().unwrap()).unwrap()
    };
    let bare = Config::parse(
        &shown.file,
        "[listen]\nimap = [\"localhost:1143\"]\n[[account]]\naddress = \"ann@example.org\"\npassword = { file = \"ann.pw\" }\n[account.imap]\nhost = \"imap.example.org\"\npassword = { env = \"ANN_UPSTREAM\" }\n[account.smtp]\nhost = \"smtp.example.org\"",
    )
    .unwrap();
    assert_eq!(shown.cache, bare.cache);
    assert_eq!(shown.listen.plaintext_login, bare.listen.plaintext_login);
    assert_eq!(shown.listen.imap, bare.listen.imap);
    assert_eq!(shown.data_dir, bare.data_dir);
    assert_eq!(shown.tls, bare.tls);
    assert_eq!((&shown.http, &shown.log), (&bare.http, &bare.log));
    assert_eq!(shown.accounts, bare.accounts);
    assert_eq!(bare.cache, Cache { max_size: 20_000_000_000, prefetch: Prefetch::Days(30) });
}

#[test]
fn a_preset_fills_what_is_left_out() {
    let text = "[listen]\nimap = [\"localhost:1\"]\n[[account]]\naddress = \"ann@gmail.com\"\npassword = { plain = \"x\" }\n[account.imap]\npassword = { plain = \"y\" }";
    let config = parse(text).unwrap();
    let account = &config.accounts[0];
    assert_eq!(
        (account.imap.host.as_str(), account.imap.port, account.imap.tls),
        ("imap.gmail.com", 993, TlsMode::Implicit)
    );
    let smtp = account.smtp.as_ref().unwrap();
    assert_eq!((smtp.host.as_str(), smtp.port, smtp.username.as_str()), ("smtp.gmail.com", 465, "ann@gmail.com"));
    assert_eq!(smtp.password, account.imap.password);
    assert_eq!(
        account.limits,
        Limits {
            connections: 3,
            download_per_day: Some(2_500_000_000),
            upload_per_day: Some(500_000_000),
            messages_per_day: Some(500),
            ..Limits::default()
        }
    );
    assert_eq!(account.provider.unwrap().idle_renew(), Some(Duration::from_secs(540)));
    // The file's own words win, key by key.
    let config =
        parse(&format!("{text}\nport = 143\n[account.limits]\nconnections = 2\nupload_per_day = \"1GiB\"")).unwrap();
    let account = &config.accounts[0];
    assert_eq!((account.imap.port, account.imap.tls), (143, TlsMode::StartTls));
    assert_eq!((account.limits.connections, account.limits.upload_per_day), (2, Some(1 << 30)));
    assert_eq!(account.limits.download_per_day, Some(2_500_000_000));
    // A host of one's own under a provider's domain is not that provider.
    let config = parse(&format!("{text}\nhost = \"127.0.0.1\"\nport = 3143\ntls = \"none\"")).unwrap();
    let account = &config.accounts[0];
    assert!(account.provider.is_none() && account.smtp.is_none() && account.limits.download_per_day.is_none());
    // Named, it is: a simulated Gmail, for instance.
    let named = text.replace(
        "[account.imap]",
        "provider = \"gmail\"\n[account.imap]\nhost = \"127.0.0.1\"\nport = 3143\ntls = \"none\"",
    );
    let account = &parse(&named).unwrap().accounts[0];
    assert_eq!((account.provider.unwrap().name.as_str(), account.imap.port), ("gmail", 3143));
}

#[test]
fn ports_and_encryption_follow_each_other() {
    let table = [
        ("", 993, TlsMode::Implicit),
        ("port = 143", 143, TlsMode::StartTls),
        ("tls = \"starttls\"", 143, TlsMode::StartTls),
        ("tls = \"none\"", 143, TlsMode::None),
        ("port = 1993", 1993, TlsMode::Implicit),
        ("port = 993\ntls = \"starttls\"", 993, TlsMode::StartTls),
    ];
    for (more, port, tls) in table {
        let text = with_account(&format!(
            "[account.imap]\nhost = \"imap.example.org\"\npassword = {{ plain = \"u\" }}\n{more}"
        ));
        let imap = &parse(&text).unwrap().accounts[0].imap;
        assert_eq!((imap.port, imap.tls), (port, tls), "{more}");
    }
}

#[test]
fn all_faults_are_told_at_once_with_place_and_mend() {
    let text = r#"datadir = "/x"
[listen]
imap = "127.0.0.1:1143"
imaps = ["mail.example.org:993", "127.0.0.1:70000"]
pop3 = ["127.0.0.1:1110"]
pop3s = ["127.0.0.1:1110"]
plaintext_login = ["192.168.0.0/40"]
[tls]
cert_file = "nowhere.pem"
[cache]
max_size = "20 bananas"
prefetch = 30
[[account]]
address = "ann@example.org"
password = "hunter2"
[account.imap]
prot = 143
password = { file = "a", env = "B" }
[[account]]
address = "ANN@example.org"
password = { argon2id = "hunter3" }
provider = "gmial"
[account.imap]
host = "imap.example.org:993"
port = 0
tls = "ssl"
password = { credential = "a/b" }
[account.limits]
connections = 0
"#;
    let faults = parse(text).unwrap_err();
    let want = [
        (1, "datadir", "Did you mean `data_dir`?"),
        (3, "listen.imap", "TOML string"),
        (4, "listen.imaps[0]", "localhost"),
        (4, "listen.imaps[1]", "Write an IP address"),
        (6, "listen.pop3s[0]", "port of its own"),
        (7, "listen.plaintext_login[0]", "Write networks like"),
        (8, "tls.key_file", "go together"),
        (11, "cache.max_size", "20GB"),
        (12, "cache.prefetch", "TOML integer"),
        (15, "account[0].password", "{ file = "),
        (16, "account[0].imap.host", "imap.example.org"),
        (17, "account[0].imap.prot", "Did you mean `port`?"),
        (18, "account[0].imap.password", "Keep one."),
        (20, "account[1].address", "remove one"),
        (21, "account[1].password.argon2id", "$argon2id$v=19$"),
        (22, "account[1].provider", "Known: gmail"),
        (24, "account[1].imap.host", "bare name"),
        (25, "account[1].imap.port", "1 to 65535"),
        (26, "account[1].imap.tls", "\"implicit\" or \"starttls\" or \"none\""),
        (27, "account[1].imap.password.credential", "LoadCredential="),
        (29, "account[1].limits.connections", "at least 1"),
    ];
    let found: Vec<_> = faults.iter().map(|f| (f.line, f.key.as_str())).collect();
    let expected: Vec<_> = want.iter().map(|(line, key, _)| (*line, *key)).collect();
    assert_eq!(found, expected, "{faults:#?}");
    for (fault, (.., mend)) in faults.iter().zip(want) {
        assert!(fault.mend.contains(mend), "{fault}");
        assert!(fault.mend.ends_with(['.', '?']), "{fault}");
        assert!(!fault.to_string().contains("hunter"), "{fault}");
    }
    assert!(faults[0].to_string().starts_with("/etc/mailweir.toml:1: datadir: there is no such key. Did you mean"));
}

#[test]
fn single_faults() {
    let imap = "[account.imap]\nhost = \"h\"\npassword = { plain = \"u\" }\n";
    let table = [
        (String::new(), "listen", "nothing listens"),
        ("[listen]\nimap = [1]".into(), "listen.imap[0]", "must be a text"),
        ("account = 3\n[listen]\nimap = []".into(), "account", "two brackets"),
        ("[listen]\nimap = []\n[account]\naddress = \"a@b\"".into(), "account", "two brackets"),
        (with_account(""), "account[0].imap.host", "is missing"),
        (with_account("[account.imap]\nhost = \"h\""), "account[0].imap.password", "is missing"),
        (with_account(&format!("{imap}[account.smtp]\nport = 25")), "account[0].smtp.host", "is missing"),
        (with_account(&format!("{imap}verify = 1")), "account[0].imap.verify", "true or false"),
        (with_account(&format!("{imap}ca_file = \"none.pem\"")), "account[0].imap.ca_file", "cannot be read"),
        (with_account(&format!("{imap}ca_file = \"/\"\nverify = false")), "account[0].imap.verify", "useless"),
        (
            with_account(&format!("{imap}[account.limits]\nconnections = 21")),
            "account[0].limits.connections",
            "more than",
        ),
        (
            with_account(&format!("{imap}[account.limits]\nconnections = -1")),
            "account[0].limits.connections",
            "not below 0",
        ),
        (with_account(&format!("{imap}[account.pop3]\non_dele = \"expunge\"")), "account[0].pop3.on_dele", "not known"),
        (
            with_account(&format!("{imap}[account.pop3]\nmax_messages = 0")),
            "account[0].pop3.max_messages",
            "no number of messages",
        ),
        (
            with_account(&format!("{imap}[account.pop3]\ndevice_separator = \"-\"")),
            "account[0].pop3.device_separator",
            "cannot stand behind",
        ),
        (
            with_account(&imap.replace("plain = \"u\"", "command = []")),
            "account[0].imap.password.command",
            "no program",
        ),
        (with_account(&imap.replace("plain = \"u\"", "env = \"A=B\"")), "account[0].imap.password.env", "not the name"),
        (with_account(&imap.replace("plain = \"u\"", "plain = \"\"")), "account[0].imap.password.plain", "is empty"),
        (with_account(&imap.replace("plain = \"u\"", "")), "account[0].imap.password", "names no secret"),
        (
            with_account(&imap.replace("plain = \"u\"", "argon2id = \"x\"")),
            "account[0].imap.password",
            "names no secret",
        ),
        (with_account(imap).replace("ann@", "ann"), "account[0].address", "not an e-mail address"),
        (with_account(imap).replace("address =", "#"), "account[0].address", "is missing"),
        (
            format!(
                "{}provider = \"gmail\"\n[account.imap]\npassword = {{ plain = \"u\" }}\n[account.limits]\nconnections = 16",
                with_account("")
            ),
            "account[0].limits.connections",
            "Gmail bears 15",
        ),
        ("password = \"hunter2\n".into(), "", "not valid TOML"),
    ];
    for (text, key, what) in table {
        let faults = parse(&text).unwrap_err();
        assert!(
            faults.iter().any(|f| f.key == key && f.to_string().contains(what)),
            "wanted {key}: {what}\nfile:\n{text}\nfound: {faults:#?}"
        );
        assert!(!format!("{faults:?}").contains("hunter"));
    }
}

#[test]
fn hashes_and_oauth2_are_taken() {
    use argon2::PasswordHasher;
    let salt = argon2::password_hash::SaltString::from_b64("c2FsdHNhbHQ").unwrap();
    let hash = argon2::Argon2::default().hash_password(b"pw", &salt).unwrap().to_string();
    let text =
        with_account("provider = \"office365\"\n[account.oauth2]\ntenant = \"t.example\"\nclient_id = \"i\"\nclient_secret = { env = \"S\" }")
            .replace("plain = \"local\"", &format!("argon2id = \"{hash}\""));
    let account = &parse(&text).unwrap().accounts[0];
    assert_eq!(account.password, LocalPassword::Argon2id(hash.clone()));
    assert!(!format!("{account:?}").contains(&hash));
    assert_eq!(account.imap.password, None);
    let oauth2 = account.oauth2.as_ref().unwrap();
    assert_eq!(oauth2.token_url, "https://login.microsoftonline.com/t.example/oauth2/v2.0/token");
    assert_eq!((oauth2.redirect_host.as_str(), oauth2.scopes.len()), ("localhost", 3));
}

#[test]
fn a_service_account_needs_its_key_alone() {
    let text = with_account(
        "provider = \"gmail\"\n[account.oauth2]\ngrant = \"service-account\"\nkey = { file = \"robot.json\" }",
    );
    let config = parse(&text).unwrap();
    let oauth2 = config.accounts[0].oauth2.as_ref().unwrap();
    assert_eq!((oauth2.grant, oauth2.subject.as_str()), (OAuthGrant::ServiceAccount, "ann@example.org"));
    assert_eq!(oauth2.key, Some(SecretRef::File("/etc/robot.json".into())));
    assert_eq!(oauth2.scopes, ["https://mail.google.com/"]);
}

#[test]
fn what_oauth2_lacks_is_told() {
    let own = "provider = \"gmail\"\n[account.oauth2]\n";
    let table = [
        (own.to_owned(), "account[0].oauth2.client_id", "Google Cloud console"),
        (format!("{own}client_id = \"i\"\ngrant = \"client\""), "account[0].oauth2.client_secret", "prove who it is"),
        (
            format!("{own}client_id = \"i\"\ngrant = \"client-credentials\""),
            "account[0].oauth2.client_secret",
            "prove who it is",
        ),
        (format!("{own}grant = \"service-account\""), "account[0].oauth2.key", "is missing"),
        (format!("{own}client_id = \"i\"\nkey = {{ file = \"k\" }}"), "account[0].oauth2.key", "service account only"),
        (
            format!("{own}client_id = \"i\"\ntoken_url = \"http://example.org/\""),
            "account[0].oauth2.token_url",
            "not encrypted",
        ),
        (format!("{own}client_id = \"i\"\ntoken_url = \"token\""), "account[0].oauth2.token_url", "not a web address"),
        (format!("{own}client_id = \"i\"\ntenant = \"a/b\""), "account[0].oauth2.tenant", "no tenant"),
        (
            "[account.imap]\nhost = \"h\"\n[account.oauth2]\nclient_id = \"i\"".into(),
            "account[0].oauth2.token_url",
            "OAuth server of example.org",
        ),
        (
            "[account.imap]\nhost = \"h\"\n[account.oauth2]\nclient_id = \"i\"\ntoken_url = \"http://127.0.0.1:1/t\""
                .into(),
            "account[0].oauth2.authorize_url",
            "no `device_url` either",
        ),
    ];
    for (more, key, what) in table {
        let faults = parse(&with_account(&more)).unwrap_err();
        assert!(
            faults.iter().any(|f| f.key == key && f.to_string().contains(what)),
            "wanted {key}: {what}\nfor {more}\nfound {faults:#?}"
        );
    }
}

#[test]
fn the_unwise_is_warned_of() {
    let imap = "[account.imap]\nhost = \"imap.example.org\"\npassword = { plain = \"u\" }\n";
    for (more, key, what) in [
        ("verify = false", "account[0].imap.verify", "IS NOT CHECKED"),
        ("tls = \"none\"", "account[0].imap.tls", "not encrypted"),
    ] {
        let warnings = parse(&with_account(&format!("{imap}{more}"))).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].key == key && warnings[0].what.contains(what), "{warnings:?}");
    }
    assert_eq!(
        parse(&with_account(&imap.replace("imap.example.org\"", "127.0.0.1\"\ntls = \"none\""))).unwrap().warnings,
        []
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = format!(
        "data_dir = \"store\"\n[tls]\ndir = \"certs\"\n{}",
        with_account("[account.imap]\nhost = \"h\"\npassword = { file = \"up.pw\" }")
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/store"));
    assert_eq!(config.tls.dir, Path::new("/etc/certs"));
    assert_eq!(config.accounts[0].imap.password, Some(SecretRef::File("/etc/up.pw".into())));
    let default = parse(&text.replace("dir = \"certs\"", "")).unwrap();
    assert_eq!(default.tls.dir, Path::new("/etc/store/certs"));
}
