//! Changes to the configuration file that leave everything else in it as it is: comments, order, blanks.
//!
//! The new text is checked as a whole before it replaces the old, whole or not at all, with the mode and the owner the file had.

use std::path::Path;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::discover::Place;
use crate::config::{Config, TlsMode};
use crate::net::files::{make_private_dir, rewrite};

/// The beginning of a configuration that `account add` makes.
const BEGINNING: &str = "\
# mailweir's configuration, begun by `mailweir account add`. Every key is explained in the annotated sample, config/mailweir.toml.

[listen]
imap = [\"127.0.0.1:1143\"]           # STARTTLS offered
imaps = [\"127.0.0.1:1993\"]
pop3s = [\"127.0.0.1:1995\"]
submissions = [\"127.0.0.1:1465\"]    # sending
http = [\"127.0.0.1:1080\"]           # status page, /metrics, /trust for setting up phones and mail programs
#lan = true                          # serves the local network, too
";

/// An account to be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) address: String,
    /// The argon2id hash of the local password.
    pub(super) hash: String,
    pub(super) provider: Option<String>,
    pub(super) imap: Option<Place>,
    pub(super) smtp: Option<Place>,
    pub(super) username: Option<String>,
    pub(super) ca_file: Option<String>,
    /// Key and value of the upstream password's reference.
    pub(super) password: Option<(&'static str, String)>,
    /// Keys of `[account.oauth2]`, in order; none for a password.
    pub(super) oauth2: Vec<(&'static str, Value)>,
}

/// The text of the file; a beginning where there is none.
pub(super) fn read(path: &Path) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BEGINNING.to_owned()),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// The text with an account more.
pub(super) fn add(text: &str, entry: &Entry) -> Result<String, String> {
    let mut document = parse(text)?;
    let mut table = Table::new();
    table["address"] = value(&entry.address);
    table["password"] = inline("argon2id", &entry.hash);
    if let Some(provider) = &entry.provider {
        table["provider"] = value(provider);
    }
    let mut imap = server(entry.imap.as_ref());
    if let Some(username) = &entry.username {
        imap["username"] = value(username);
    }
    if let Some((key, text)) = &entry.password {
        imap["password"] = inline(key, text);
    }
    let mut smtp = server(entry.smtp.as_ref());
    for table in [&mut imap, &mut smtp] {
        if let Some(file) = entry.ca_file.as_ref().filter(|_| table.contains_key("host")) {
            table["ca_file"] = value(file);
        }
    }
    for (key, servers) in [("imap", imap), ("smtp", smtp)] {
        if !servers.is_empty() {
            table[key] = Item::Table(servers);
        }
    }
    if !entry.oauth2.is_empty() {
        let mut oauth2 = Table::new();
        for (key, text) in &entry.oauth2 {
            oauth2[key] = value(text.clone());
        }
        table["oauth2"] = Item::Table(oauth2);
    }
    // Comments at the end of the file stay where they are: above what is new.
    let last_words = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    table.decor_mut().set_prefix(format!("{last_words}\n"));
    let accounts = document.entry("account").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    accounts.as_array_of_tables_mut().ok_or_else(|| "`account` is not written as [[account]]".to_owned())?.push(table);
    Ok(document.to_string())
}

/// The text without an account; nothing when it has none of that address.
pub(super) fn remove(text: &str, address: &str) -> Result<Option<String>, String> {
    let mut document = parse(text)?;
    let Some(accounts) = document.get_mut("account") else { return Ok(None) };
    let accounts =
        accounts.as_array_of_tables_mut().ok_or_else(|| "`account` is not written as [[account]]".to_owned())?;
    let is_it = |table: &Table| {
        table.get("address").and_then(Item::as_str).is_some_and(|found| found.eq_ignore_ascii_case(address))
    };
    let Some(at) = accounts.iter().position(is_it) else { return Ok(None) };
    let above = accounts.get(at).and_then(|table| table.decor().prefix()?.as_str()).unwrap_or_default().to_owned();
    accounts.remove(at);
    if accounts.is_empty() {
        document.remove("account");
    }
    if above.contains('#') {
        // What stood above it may not have been about it.
        let last_words = document.trailing().as_str().unwrap_or_default().to_owned();
        document.set_trailing(format!(
            "{}{last_words}",
            above.trim_start_matches('\n').trim_end_matches('\n').to_owned() + "\n"
        ));
    }
    Ok(Some(document.to_string()))
}

/// Puts an account more into the file as it is now: a person may have edited it while another consented.
pub(super) fn write_more(path: &Path, entry: &Entry) -> Result<Config, String> {
    write(path, &add(&read(path)?, entry)?)
}

/// Checks the new text and puts it in the file's place.
pub(super) fn write(path: &Path, text: &str) -> Result<Config, String> {
    let config = Config::parse(path, text);
    let config = config.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    path.parent().map_or(Ok(()), make_private_dir).map_err(failed)?;
    rewrite(path, text.as_bytes()).map_err(failed)?;
    Ok(config)
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    // The message alone: the whole error quotes the line, which may hold a password.
    text.parse::<DocumentMut>().map_err(|error| format!("the configuration is not valid TOML: {}", error.message()))
}

fn server(place: Option<&Place>) -> Table {
    let mut table = Table::new();
    if let Some(place) = place {
        table["host"] = value(&place.host);
        table["port"] = value(i64::from(place.port));
        table["tls"] = value(match place.tls {
            TlsMode::Implicit => "implicit",
            TlsMode::StartTls => "starttls",
            TlsMode::None => "none",
        });
    }
    table
}

fn inline(key: &str, text: &str) -> Item {
    let mut table = InlineTable::new();
    table.insert(key, text.into());
    value(table)
}

/// A list of texts.
pub(super) fn list(texts: &[String]) -> Value {
    Value::Array(texts.iter().collect::<Array>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\n[listen]\nimap = [\"127.0.0.1:1143\"]  # here\n\n# Bob's\n[[account]]\naddress = \"bob@example.org\" # him\n\
                        password = { plain = \"x\" }\n[account.imap]\nhost = \"h\"\npassword = { env = \"E\" }\n";

    fn entry() -> Entry {
        let hash = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$kvqUDb4Gb8p8z5oMWkrHwQ".to_owned();
        Entry {
            address: "ann@example.org".into(),
            hash,
            imap: Some(Place { host: "imap.example.org".into(), port: 143, tls: TlsMode::StartTls }),
            password: Some(("file", "ann.pw".into())),
            ..Entry::default()
        }
    }

    #[test]
    fn what_was_there_stays_to_the_letter() {
        let more = add(TEXT, &entry()).unwrap();
        assert!(more.starts_with(TEXT), "{more}");
        let config = Config::parse("/etc/mailweir.toml".as_ref(), &more).unwrap();
        let ann = config.account("ann@example.org").unwrap();
        assert_eq!((ann.imap.host.as_str(), ann.imap.port, ann.imap.tls), ("imap.example.org", 143, TlsMode::StartTls));
        assert_eq!(remove(&more, "ANN@example.org").unwrap().unwrap(), TEXT);
        assert_eq!(remove(TEXT, "ann@example.org").unwrap(), None);
        let none = remove(TEXT, "bob@example.org").unwrap().unwrap();
        assert!(none.contains("# here") && none.contains("# Bob's") && !none.contains("bob"), "{none}");
        // Comments at the end stay above what is added, and are there when it is taken out.
        let talkative = format!("{TEXT}# the last word\n");
        let more = add(&talkative, &entry()).unwrap();
        assert!(more.starts_with(&talkative), "{more}");
        assert_eq!(remove(&more, "ann@example.org").unwrap().unwrap(), talkative);
    }

    #[test]
    fn a_beginning_and_a_preset_are_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/mailweir.toml");
        let entry = Entry {
            address: "ann@gmail.com".into(),
            imap: None,
            password: None,
            oauth2: vec![("client_id", "us".into()), ("scopes", list(&["a".to_owned()]))],
            ..entry()
        };
        let config = write(&path, &add(&read(&path).unwrap(), &entry).unwrap()).unwrap();
        assert_eq!(config.accounts[0].imap.host, "imap.gmail.com");
        assert_eq!(config.accounts[0].oauth2.as_ref().unwrap().scopes, ["a"]);
        // Somebody else was faster: no second account of that address.
        let text = read(&path).unwrap();
        assert!(write_more(&path, &entry).is_err());
        assert_eq!(read(&path).unwrap(), text);
        let broken = write(&path, "nonsense = 1").unwrap_err();
        assert!(broken.contains("there is no such key") && Config::load(&path).is_ok(), "{broken}");
        let secret = parse("password = \"hunter2\nx").unwrap_err();
        assert!(!secret.contains("hunter2"), "{secret}");
    }
}
