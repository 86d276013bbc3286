//! From a path to a [`Config`]: finding the file, reading its top tables, and the checks that span several keys.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use toml::de::DeTable;

use super::account;
use super::fault::{Fault, Faults};
use super::observe;
use super::reader::{At, Table};
use super::schema;
use super::values::{Wrong, days, listen_address, size};
use super::{Account, Cache, Config, Listen, OwnCertificate, PlaintextLogin, Prefetch, Tls};
use crate::secret::SecretRef;

/// A configuration file larger than this is some other file: thousands of accounts fit.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Default of `cache.max_size`: what a home computer can spare, and most mailboxes whole.
const DEFAULT_CACHE: u64 = 20_000_000_000;

/// Default of `cache.prefetch`: the part of a mailbox people open.
const DEFAULT_PREFETCH: Prefetch = Prefetch::Days(30);

/// Default of `token_key`: outside the store, so that whoever gets hold of a copy of that has no tokens.
const TOKEN_KEY: &str = "mailweir.key";

/// The environment variable that names the file when `--config` does not.
const ENV: &str = "MAILWEIR_CONFIG";

/// There is no home directory to look in.
#[derive(Debug, thiserror::Error)]
#[error("no configuration is named and there is no home directory to look in; use --config FILE or set {ENV}")]
pub struct LocateError;

/// Where the configuration lives when nothing names another place: `mailweir/mailweir.toml` in the platform's configuration
/// directory.
pub fn default_path() -> Result<PathBuf, LocateError> {
    let base = etcetera::choose_base_strategy().map_err(|_| LocateError)?;
    Ok(base.config_dir().join("mailweir").join("mailweir.toml"))
}

impl Config {
    /// Which file to read: the one named by `--config`, else `$MAILWEIR_CONFIG`, else [`default_path`]. It need not exist.
    pub fn locate(named: Option<PathBuf>) -> Result<PathBuf, LocateError> {
        choose(named, std::env::var_os(ENV)).map_or_else(default_path, Ok)
    }

    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, Vec<Fault>> {
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let whole = |what: String, mend: &str| {
            vec![Fault { file: path.clone(), line: 0, key: String::new(), what, mend: mend.to_owned() }]
        };
        let text = match read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(whole(
                    "there is no such file".into(),
                    "Make one with `mailweir account add ADDRESS`, or name another with --config FILE.",
                ));
            }
            Err(e) => {
                return Err(whole(format!("it cannot be read: {e}"), "Mend that, or name another with --config FILE."));
            }
        };
        Self::parse(path, &text)
    }

    /// Checks `text` as if it stood in `path`, which must be absolute.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let faults = Faults::new(path, text);
        let (tree, errors) = DeTable::parse_recoverable(text);
        for e in &errors {
            // Only the message: the full text of the error quotes the line, and the line may hold a password.
            faults.add(
                "",
                e.span().unwrap_or(0..0),
                format!("not valid TOML: {}", one_line(e.message())),
                "Mend the line.",
            );
        }
        // After a broken line the rest of the tree is a guess: faults about it would only mislead.
        if !errors.is_empty() {
            return Err(faults.finish().err().unwrap_or_default());
        }
        let config = read_root(path, &Table::root(tree.get_ref(), &faults));
        let warnings = faults.finish()?;
        Ok(Self { warnings, ..config })
    }
}

fn choose(named: Option<PathBuf>, env: Option<OsString>) -> Option<PathBuf> {
    named.or_else(|| env.filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

fn read_root(path: &Path, root: &Table<'_>) -> Config {
    root.allow(&schema::ROOT);
    let dir = path.parent().unwrap_or(path);
    let data_dir = root.word("data_dir").map(|at| dir.join(at.value)).or_else(|| {
        let platform = etcetera::choose_base_strategy().ok().map(|base| base.data_dir().join("mailweir"));
        if platform.is_none() && !root.has("data_dir") {
            root.fault(
                "data_dir",
                "is missing, and there is no home directory to take a default from",
                "Set `data_dir`.",
            );
        }
        platform
    });
    // Stands only beside a fault just added.
    let data_dir = data_dir.unwrap_or_default();
    let token_key = account::read_secret(root, "token_key", dir);
    Config {
        token_key: token_key.unwrap_or_else(|| SecretRef::File(dir.join(TOKEN_KEY))),
        listen: read_listen(&root.table("listen")),
        tls: read_tls(&root.table("tls"), dir, &data_dir),
        cache: read_cache(&root.table("cache")),
        http: observe::read_http(&root.table("http"), dir),
        log: observe::read_log(&root.table("log"), dir),
        accounts: read_accounts(root, dir),
        file: path.to_owned(),
        data_dir,
        warnings: Vec::new(),
    }
}

fn read_listen(table: &Table<'_>) -> Listen {
    table.allow(&schema::LISTEN);
    let mut taken: HashMap<SocketAddr, String> = HashMap::new();
    let mut addresses = |key: &str| {
        let mut list = Vec::new();
        for at in table.list(key).unwrap_or_default() {
            let address = match listen_address(at.value) {
                Ok(address) => address,
                Err((what, mend)) => {
                    at.fault(what, mend);
                    continue;
                }
            };
            // Port 0 is "any free one", so two of them do not collide.
            if address.port() != 0
                && let Some(other) = taken.insert(address, at.key.clone())
            {
                at.fault(format!("{address} is given to {other} already"), "Give each listener a port of its own.");
            }
            list.push(address);
        }
        list
    };
    let mut listen = Listen {
        imap: addresses("imap"),
        imaps: addresses("imaps"),
        pop3: addresses("pop3"),
        pop3s: addresses("pop3s"),
        submission: addresses("submission"),
        submissions: addresses("submissions"),
        http: addresses("http"),
        lan: table.boolean("lan").is_some_and(|at| at.value),
        plaintext_login: read_plaintext_login(table),
    };
    if listen.lan {
        listen.open_to_the_network();
    }
    let keys = schema::LISTEN.keys.iter().filter(|k| !["lan", "plaintext_login"].contains(k));
    if !keys.clone().any(|k| table.has(k)) {
        table.fault("", "nothing listens", "Add at least `imap = [\"127.0.0.1:1143\"]` under [listen].");
    }
    listen
}

fn read_plaintext_login(table: &Table<'_>) -> PlaintextLogin {
    let key = "plaintext_login";
    if !table.is_text(key) && table.has(key) {
        let networks = table.list(key).unwrap_or_default().into_iter().filter_map(|at| {
            at.parse(|text| {
                text.parse()
                    .map_err(|what| (what, "Write networks like \"192.168.0.0/16\" or \"fd00::/8\".".to_owned()))
            })
        });
        return PlaintextLogin::Networks(networks.collect());
    }
    let choice = table.text(key).and_then(|at| {
        at.parse(|text| {
            one_of(
                text,
                &[("never", PlaintextLogin::Never), ("loopback", PlaintextLogin::Loopback)],
                " (or a list of networks)",
            )
        })
    });
    choice.unwrap_or_default()
}

fn read_tls(table: &Table<'_>, dir: &Path, data_dir: &Path) -> Tls {
    table.allow(&schema::TLS);
    let names =
        table.list("names").unwrap_or_default().into_iter().filter_map(|at| at.parse(|name| certificate_name(name)));
    let file = |key| table.word(key).and_then(|at| existing_file(at, dir));
    let own = match (table.has("cert_file"), table.has("key_file")) {
        (true, true) => {
            file("cert_file").zip(file("key_file")).map(|(cert_file, key_file)| OwnCertificate { cert_file, key_file })
        }
        (false, false) => None,
        (has_cert, _) => {
            let missing = if has_cert { "key_file" } else { "cert_file" };
            table.fault(missing, "is missing", "`cert_file` and `key_file` go together: give both or neither.");
            None
        }
    };
    Tls {
        names: names.collect(),
        own,
        dir: table.word("dir").map_or_else(|| data_dir.join("certs"), |at| dir.join(at.value)),
    }
}

fn read_cache(table: &Table<'_>) -> Cache {
    table.allow(&schema::CACHE);
    let prefetch = table.text("prefetch").and_then(|at| {
        at.parse(|text| match *text {
            "none" => Ok(Prefetch::None),
            "all" => Ok(Prefetch::All),
            other => days(other).map(Prefetch::Days).ok_or_else(|| {
                (format!("`{other}` is not a span"), "Write \"none\", \"all\", or days like \"30d\".".into())
            }),
        })
    });
    Cache {
        max_size: read_size(table, "max_size").unwrap_or(DEFAULT_CACHE),
        prefetch: prefetch.unwrap_or(DEFAULT_PREFETCH),
    }
}

fn read_accounts(root: &Table<'_>, dir: &Path) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    let mut first: HashMap<String, usize> = HashMap::new();
    for (i, table) in root.tables("account").iter().enumerate() {
        // Checked before the account as a whole, so that a double is told even if the account has other faults.
        if let Some(at) = table.text("address")
            && let Some(other) = first.insert(at.value.to_ascii_lowercase(), i)
        {
            let mend = "Each address can be an account once; remove one of the two.";
            at.fault(format!("`{}` is account[{other}]'s address already", at.value), mend);
        }
        accounts.extend(account::read(table, dir));
    }
    accounts
}

/// A size in bytes: a text with a unit, or a bare number.
pub(super) fn read_size(table: &Table<'_>, key: &str) -> Option<u64> {
    if table.has(key) && !table.is_text(key) {
        return table.number(key).map(|at| at.value);
    }
    table.text(key).and_then(|at| at.parse(|text| size(text)))
}

/// A path to a file that must be there: told now, with the other faults, and not at the first connection.
pub(super) fn existing_file(at: At<'_, &str>, dir: &Path) -> Option<PathBuf> {
    let path = dir.join(at.value);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => Some(path),
        Ok(_) => {
            at.fault(format!("{} is not a file", path.display()), "Name a file in PEM form.");
            None
        }
        Err(e) => {
            at.fault(
                format!("{} cannot be read: {e}", path.display()),
                "Paths are relative to the configuration file's directory.",
            );
            None
        }
    }
}

/// One of several words.
pub(super) fn one_of<T: Clone>(text: &str, words: &[(&str, T)], also: &str) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(value.clone());
    }
    let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    Err((format!("`{text}` is not known here"), format!("Write {}{also}.", list.join(" or "))))
}

/// A name or address a certificate can carry.
fn certificate_name(name: &str) -> Result<String, Wrong> {
    let is_label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let host = name.strip_prefix("*.").unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(is_label)) {
        return Ok(name.to_owned());
    }
    Err((format!("`{name}` is neither a host name nor an IP address"), "Write names without ports or brackets.".into()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_chosen_in_order() {
        let named = || Some(PathBuf::from("a"));
        assert_eq!(choose(named(), Some("b".into())), named());
        assert_eq!(choose(None, Some("b".into())), Some("b".into()));
        assert_eq!(choose(None, Some("".into())), None);
        assert_eq!(choose(None, None), None);
    }

    #[test]
    fn a_missing_or_unreadable_file_is_a_fault_with_a_mend() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Config::load(&dir.path().join("none.toml")).unwrap_err();
        assert!(faults[0].to_string().contains("mailweir account add"), "{}", faults[0]);
        assert!(Config::load(dir.path()).unwrap_err()[0].what.contains("cannot be read"));
        let latin1 = dir.path().join("latin1.toml");
        std::fs::write(&latin1, b"data_dir = \"\xe9\"").unwrap();
        assert!(Config::load(&latin1).unwrap_err()[0].what.contains("cannot be read"));
    }

    #[test]
    fn one_switch_serves_the_local_network() {
        let read = |more: &str| {
            let text = format!(
                "[listen]\n{more}imap = [\"192.168.1.5:1143\", \"localhost:1143\", \"[::1]:1143\", \"127.0.0.2:1143\", \"10.0.0.1:2143\"]\nhttp = [\"127.0.0.1:1080\"]"
            );
            Config::parse(Path::new("/etc/mailweir.toml"), &text).unwrap().listen
        };
        let listen = read("lan = true\n");
        let shown: Vec<_> = listen.imap.iter().chain(&listen.http).map(ToString::to_string).collect();
        assert_eq!(shown, ["0.0.0.0:1143", "[::]:1143", "10.0.0.1:2143", "0.0.0.0:1080"]);
        assert_eq!(listen.plaintext_login, PlaintextLogin::Loopback);
        for more in ["", "lan = false\n"] {
            let listen = read(more);
            assert!(!listen.lan && listen.imap.len() == 5 && listen.http[0].ip().is_loopback());
        }
    }

    #[test]
    fn certificate_names() {
        for (name, ok) in [
            ("localhost", true),
            ("mail.home.arpa", true),
            ("*.home.arpa", true),
            ("::1", true),
            ("127.0.0.1", true),
            ("a..b", false),
            ("a:1", false),
            ("", false),
            ("mail box", false),
        ] {
            assert_eq!(certificate_name(name).is_ok(), ok, "{name}");
        }
    }
}
