//! The layer table of `src/lib.rs`, held against the imports: an edge outside it fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every top module and its layer. A module uses layers below its own.
const LAYERS: &[(&str, u8)] = &[
    ("model", 0),
    ("wire", 1),
    ("net", 1),
    ("message", 1),
    ("budget", 1),
    ("provider", 1),
    ("config", 1),
    ("metrics", 1),
    ("secret", 1),
    ("clock", 1),
    ("upstream", 2),
    ("store", 2),
    ("state", 2),
    ("auth", 2),
    ("engine", 3),
    ("session", 4),
    ("daemon", 5),
    ("cli", 6),
    ("main", 7),
];

/// Edges inside layer 1 that are wanted, each with its reason.
const BESIDE: &[(&str, &str)] = &[
    ("wire", "secret"),     // a password is a secret from its first byte on
    ("config", "secret"),   // secret references
    ("config", "provider"), // presets fill what a configuration leaves out
    ("config", "budget"),   // the shares of a limit, and their defaults
    ("net", "config"),      // addresses and TLS settings are taken as parsed
    ("net", "secret"),      // private keys
];

/// Edges downwards that are barred all the same (design, section 4).
const BARRED: &[(&str, &str)] = &[("session", "store"), ("session", "upstream"), ("session", "state")];

/// Crates that one folder alone may name (Law 3), by the beginning of the path.
const OWNED: &[(&str, &[&str])] = &[
    ("sled", &["store/"]),
    ("rusqlite", &["state/"]),
    ("opentelemetry", &["cli/log/"]),
    ("opentelemetry_http", &["cli/log/"]),
    ("opentelemetry_otlp", &["cli/log/"]),
    ("opentelemetry_sdk", &["cli/log/"]),
    ("tracing_opentelemetry", &["cli/log/"]),
    ("imap_codec", &["wire/", "upstream/exchange/", "session/imap/"]),
    ("imap_types", &["wire/", "upstream/exchange/", "session/imap/"]),
];

#[test]
fn no_edge_outside_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in rust_files(&root) {
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        if name == "lib.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for edge in edges(&name, &text) {
            seen += 1;
            if let Err(why) = allowed(&name, &edge) {
                wrong.push(format!("{name} uses {edge}: {why}"));
            }
        }
        for (krate, owners) in OWNED {
            if names_crate(&text, krate) && !owners.iter().any(|o| name.starts_with(o)) {
                wrong.push(format!("{name} names {krate}, which belongs to {owners:?}"));
            }
        }
    }
    assert!(seen > 0, "no import was found: the reader of this test is broken");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// `target` is a path such as `session/imap`.
fn allowed(file: &str, target: &str) -> Result<(), String> {
    let (from, to) = (top(file), top(target));
    let layer = |module: &str| {
        LAYERS.iter().find(|(m, _)| *m == module).map(|(_, l)| *l).ok_or_else(|| format!("{module} has no layer"))
    };
    let protocol = |path: &str| {
        ["imap", "pop3", "smtp"].into_iter().find(|p| path.starts_with(&format!("session/{p}"))).map(str::to_owned)
    };
    if let (Some(a), Some(b)) = (protocol(file), protocol(target))
        && a != b
    {
        return Err("protocols of session/ do not use each other".to_owned());
    }
    if BARRED.contains(&(from, to)) {
        return Err("barred by the design".to_owned());
    }
    if from == to || BESIDE.contains(&(from, to)) || layer(to)? < layer(from)? {
        return Ok(());
    }
    Err(format!("layer {} does not use layer {}", layer(from)?, layer(to)?))
}

/// Everything the file names as `crate::…` (or `mailweir::…` in `main.rs`), two steps deep; code for tests left out.
fn edges(name: &str, text: &str) -> BTreeSet<String> {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let code: String = text.lines().map(|l| l.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let prefix = if name == "main.rs" { "mailweir::" } else { "crate::" };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        paths(&code[at + prefix.len()..], &mut found);
    }
    found
}

/// The module paths at the front of `text`: `a::b::C`, or a group `{a::b, c::{d, e}}`.
fn paths(text: &str, found: &mut BTreeSet<String>) {
    if let Some(group) = text.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    paths(group[start..at].trim(), found);
                    return;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths(group[start..at].trim(), found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let first = word(text);
    if first.is_empty() || first.starts_with(char::is_uppercase) {
        return;
    }
    let second = text[first.len()..].strip_prefix("::").map(word).unwrap_or_default();
    found.insert(if second.is_empty() { first } else { format!("{first}/{second}") });
}

fn names_crate(text: &str, krate: &str) -> bool {
    let text = text.lines().map(|l| l.split("//").next().unwrap());
    text.into_iter().any(|l| {
        l.match_indices(&format!("{krate}::"))
            .any(|(at, _)| !l[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_reader_finds_edges() {
    let text = "use crate::{model::{Uid, Seq}, store::Cache};\nfn f() { crate::engine::api::x(); } // crate::cli\n\
                use crate::Nothing;\n#[cfg(test)]\nmod tests { use crate::daemon; }";
    let found: Vec<_> = edges("session/imap/conn.rs", text).into_iter().collect();
    assert_eq!(found, ["engine/api", "model", "store/Cache"]);
    let table = [
        ("session/imap/conn.rs", "engine/api", true),
        ("session/imap/conn.rs", "store/Cache", false),
        ("session/imap/conn.rs", "session/pop3", false),
        ("wire/imap/mod.rs", "upstream", false),
        ("wire/imap/mod.rs", "model/Uid", true),
        ("store/mod.rs", "upstream", false),
        ("net/mod.rs", "budget", false),
        ("config/mod.rs", "secret", true),
        ("cli/run.rs", "daemon", true),
    ];
    for (file, target, expected) in table {
        assert_eq!(allowed(file, target).is_ok(), expected, "{file} -> {target}");
    }
    assert!(names_crate("let x = sled::open();", "sled") && !names_crate("unsled::x(); // sled::y", "sled"));
}
