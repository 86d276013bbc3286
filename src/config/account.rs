//! One `[[account]]`: its own keys, what the provider's preset fills, and the rules between them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;

use crate::budget::Shares;
use crate::provider::{self, Endpoint, EndpointTls, Preset};
use crate::secret::SecretRef;

use super::load::{existing_file, one_of, read_size};
use super::reader::Table;
use super::schema::{self, LOCAL_PASSWORD_KEYS, SECRET_KEYS, Section};
use super::values::Wrong;
use super::{Account, Limits, LocalPassword, OnDele, OnRetr, Pop3, Server, TlsMode, plain_secret};

/// Sessions per account when nothing is known of the provider: one that watches, two that work.
pub(super) const DEFAULT_CONNECTIONS: u32 = 3;

/// More than this helps nobody, as a session carries many commands at once, and most servers refuse it.
const MAX_CONNECTIONS: u32 = 20;

/// A protocol's usual ports (RFC 8314 §3).
#[derive(Clone, Copy)]
struct Ports {
    implicit: u16,
    plain: u16,
}

const IMAP_PORTS: Ports = Ports { implicit: 993, plain: 143 };
const SMTP_PORTS: Ports = Ports { implicit: 465, plain: 587 };

/// Reads an account. `None` after faults that leave nothing to build one of.
pub(super) fn read(table: &Table<'_>, dir: &Path) -> Option<Account> {
    table.allow(&schema::ACCOUNT);
    let address = read_address(table);
    let provider = read_provider(table, address.as_deref());
    let password = read_local_password(table, dir);
    let user = address.clone().unwrap_or_default();
    let imap = read_imap(table, dir, provider, &user, table.has("oauth2"));
    let subject = imap.as_ref().map_or(user.as_str(), |imap| imap.username.as_str());
    let oauth2 = super::oauth2::read(table, dir, provider, address.as_deref(), subject);
    let smtp = read_smtp(table, dir, provider, &user, imap.as_ref());
    let sending = super::sending::read(&table.table("smtp"));
    let limits = read_limits(&table.table("limits"), provider);
    let pop3 = read_pop3(&table.table("pop3"));
    let aliases = table.list("aliases").unwrap_or_default().into_iter().filter_map(|at| at.parse(|a| mail_address(a)));
    let aliases = aliases.collect();
    let english_names = table.boolean("english_names").is_some_and(|at| at.value);
    Some(Account {
        address: address?,
        aliases,
        password: password?,
        provider,
        english_names,
        imap: imap?,
        smtp,
        sending,
        limits,
        pop3,
        oauth2,
    })
}

fn read_address(table: &Table<'_>) -> Option<String> {
    if !table.has("address") {
        table.fault("address", "is missing", "Add the account's e-mail address: `address = \"ann@example.org\"`.");
    }
    table.text("address")?.parse(|a| mail_address(a))
}

/// Named, or found by the domain unless the account names a host of its own.
fn read_provider(table: &Table<'_>, address: Option<&str>) -> Option<&'static Preset> {
    if !table.has("provider") {
        let found = address.and_then(provider::by_address)?;
        let imap = table.table("imap");
        // A host that is not the provider's: another service under that domain, whose limits and oddities are not these.
        let own =
            imap.is_present() && imap.is_text("host") && imap.text("host").is_some_and(|h| h.value != found.imap.host);
        return (!own).then_some(found);
    }
    table.word("provider")?.parse(|name| {
        provider::by_name(name).ok_or_else(|| {
            let known: Vec<_> = provider::presets().iter().map(|p| p.name.as_str()).collect();
            (
                format!("`{name}` is not a provider mailweir knows"),
                format!("Known: {}. Leave the key out and give [account.imap] `host` for any other.", known.join(", ")),
            )
        })
    })
}

fn read_imap(table: &Table<'_>, dir: &Path, provider: Option<&Preset>, user: &str, has_oauth2: bool) -> Option<Server> {
    let imap = table.table("imap");
    let preset = provider.map(|p| &p.imap);
    let server = read_server(&imap, &schema::IMAP, dir, preset, IMAP_PORTS, user, None);
    if !imap.has("host") && preset.is_none() {
        let mend = match user.rsplit_once('@') {
            Some((_, domain)) => format!(
                "mailweir does not know the provider of {domain}: add [account.imap] with `host = \"imap.{domain}\"` or what your provider names, or set `provider`."
            ),
            None => "Add [account.imap] with the `host` your provider names, or set `provider`.".to_owned(),
        };
        imap.fault("host", "is missing", mend);
    }
    if has_oauth2 {
        return server;
    }
    if !imap.has("password") {
        let hint =
            provider.map_or("Add `password = { file = \"…\" }` under [account.imap].", |p| p.password_hint.as_str());
        imap.fault("password", "is missing (and there is no [account.oauth2])", hint);
    } else if let Some(p) = provider.filter(|p| !p.takes_password()) {
        imap.warn("password", format!("{} is not known to accept passwords", p.title), p.password_hint.as_str());
    }
    server
}

fn read_smtp(
    table: &Table<'_>,
    dir: &Path,
    provider: Option<&Preset>,
    user: &str,
    imap: Option<&Server>,
) -> Option<Server> {
    let smtp = table.table("smtp");
    let preset = provider.map(|p| &p.smtp);
    if !smtp.is_present() && preset.is_none() {
        return None;
    }
    if !smtp.has("host") && preset.is_none() {
        smtp.fault("host", "is missing", "Give the `host` your provider names, or leave [account.smtp] out.");
    }
    let (user, password) = imap.map_or((user, None), |i| (i.username.as_str(), i.password.clone()));
    read_server(&smtp, &schema::SMTP, dir, preset, SMTP_PORTS, user, password)
}

/// What IMAP and SMTP have in common. `None` when there is no usable host.
fn read_server(
    table: &Table<'_>,
    section: &Section,
    dir: &Path,
    preset: Option<&Endpoint>,
    ports: Ports,
    user: &str,
    inherited: Option<SecretRef>,
) -> Option<Server> {
    table.allow(section);
    let own_host =
        table.word("host").map(|at| (at.value == preset.map_or("", |p| p.host.as_str()), at.parse(|h| host(h))));
    // The preset's port and encryption belong to the preset's host.
    let preset = preset.filter(|_| own_host.as_ref().is_none_or(|(is_preset, _)| *is_preset));
    let port = table.number("port").and_then(|at| {
        at.parse(|n| {
            u16::try_from(*n).ok().filter(|p| *p > 0).ok_or_else(|| {
                (format!("{n} is not a port"), "Ports go from 1 to 65535; 993 and 465 are the usual ones.".to_owned())
            })
        })
    });
    let tls = table.text("tls").and_then(|at| {
        let modes = [("implicit", TlsMode::Implicit), ("starttls", TlsMode::StartTls), ("none", TlsMode::None)];
        at.parse(|text| one_of(text, &modes, ""))
    });
    let tls = tls.or_else(|| match (port, preset) {
        (None, Some(p)) => Some(endpoint_tls(p.tls)),
        (Some(port), Some(p)) if port == p.port => Some(endpoint_tls(p.tls)),
        _ => None,
    });
    // 143 and 587 (and 25) mean STARTTLS wherever they mean anything; everything else is taken as TLS from the start.
    let tls = tls.unwrap_or(if matches!(port, Some(143 | 587 | 25)) { TlsMode::StartTls } else { TlsMode::Implicit });
    let port = port.or_else(|| preset.filter(|p| endpoint_tls(p.tls) == tls).map(|p| p.port)).unwrap_or(match tls {
        TlsMode::Implicit => ports.implicit,
        TlsMode::StartTls | TlsMode::None => ports.plain,
    });
    let ca_file = table.word("ca_file").and_then(|at| existing_file(at, dir));
    let verify = table.boolean("verify").is_none_or(|at| at.value);
    if !verify && table.has("ca_file") {
        table.fault("verify", "false makes `ca_file` useless", "Remove one of the two; keep `ca_file` if you can.");
    }
    let username = table.word("username").map_or_else(|| user.to_owned(), |at| at.value.to_owned());
    let password = if table.has("password") { read_secret(table, "password", dir) } else { inherited };
    let host = match own_host {
        Some((_, own)) => own?,
        None => preset?.host.clone(),
    };
    warn_of_exposure(table, &host, tls, verify);
    Some(Server { host, port, tls, ca_file, verify, username, password })
}

/// What is said at each start: everybody on the way to the server can read along.
fn warn_of_exposure(table: &Table<'_>, host: &str, tls: TlsMode, verify: bool) {
    let near = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if tls == TlsMode::None && !near {
        table.warn(
            "tls",
            format!("the connection to {host} is not encrypted: password and mail can be read on the way"),
            "Use \"implicit\" or \"starttls\" if the server has either.",
        );
    }
    if tls != TlsMode::None && !verify {
        table.warn(
            "verify",
            format!("THE CERTIFICATE OF {host} IS NOT CHECKED: whoever sits on the way can read password and mail"),
            "Give the server's authority as `ca_file` instead.",
        );
    }
}

fn endpoint_tls(tls: EndpointTls) -> TlsMode {
    match tls {
        EndpointTls::Implicit => TlsMode::Implicit,
        EndpointTls::StartTls => TlsMode::StartTls,
    }
}

fn read_limits(table: &Table<'_>, provider: Option<&Preset>) -> Limits {
    table.allow(&schema::LIMITS);
    let connections = table.number("connections").and_then(|at| {
        at.parse(|n| {
            let n = u32::try_from(*n).unwrap_or(u32::MAX);
            let known = provider.and_then(|p| Some((p, p.connections_max?)));
            match (n, known) {
                (0, _) => Err((
                    "0 connections cannot fetch anything".into(),
                    "Give at least 1; 2 or 3 is right for most.".into(),
                )),
                (n, Some((p, max))) if n > max => Err((
                    format!("{} bears {max} connections per account, over all its programs, and this is {n}", p.title),
                    format!("{} is right: mailweir serves any number of clients over them.", p.connections),
                )),
                (n, _) if n > MAX_CONNECTIONS => Err((
                    format!("{n} is more than servers bear"),
                    format!("Give at most {MAX_CONNECTIONS}; 2 or 3 serve any number of clients."),
                )),
                (n, Some((p, max))) if n > half(max) => {
                    table.warn(
                        "connections",
                        format!("{n} is more than half of the {max} that {} bears for all programs together", p.title),
                        format!("{} are used: the other half is for what does not go through mailweir.", half(max)),
                    );
                    Ok(half(max))
                }
                (n, _) => Ok(n),
            }
        })
    });
    let usual = Limits::default();
    Limits {
        connections: connections.unwrap_or_else(|| provider.map_or(DEFAULT_CONNECTIONS, |p| p.connections)),
        download_per_day: read_size(table, "download_per_day").or_else(|| provider?.download_per_day),
        upload_per_day: read_size(table, "upload_per_day").or_else(|| provider?.upload_per_day),
        messages_per_day: read_count(table, "messages_per_day").or_else(|| provider?.messages_per_day),
        recipients_per_day: read_count(table, "recipients_per_day").or_else(|| provider?.recipients_per_day),
        shares: Shares {
            prefetch: read_percent(table, "prefetch_share").unwrap_or(usual.shares.prefetch),
            sync: read_percent(table, "sync_share").unwrap_or(usual.shares.sync),
            reserve: read_percent(table, "reserve").unwrap_or(usual.shares.reserve),
        },
        commands_per_second: read_rate(table).or_else(|| provider?.commands_per_second),
        compress: table.boolean("compress").map_or(usual.compress, |at| at.value),
    }
}

/// Of what a provider bears, what one program takes at most.
fn half(max: u32) -> u32 {
    (max / 2).max(1)
}

fn read_percent(table: &Table<'_>, key: &'static str) -> Option<u8> {
    table.number(key).and_then(|at| {
        at.parse(|n| {
            u8::try_from(*n).ok().filter(|n| *n <= 100).ok_or_else(|| {
                (format!("{n} is not a part in percent"), "Give a number from 0 to 100, without the sign.".to_owned())
            })
        })
    })
}

fn read_count(table: &Table<'_>, key: &'static str) -> Option<u64> {
    table.number(key).and_then(|at| {
        at.parse(|n| match *n {
            0 => Err(("0 in a day".to_owned(), "Give at least 1, or leave the key out.".to_owned())),
            n => Ok(n),
        })
    })
}

fn read_rate(table: &Table<'_>) -> Option<NonZeroU32> {
    table.number("commands_per_second").and_then(|at| {
        at.parse(|n| {
            u32::try_from(*n)
                .ok()
                .and_then(NonZeroU32::new)
                .ok_or_else(|| (format!("{n} commands a second"), "Give at least 1, or leave the key out.".to_owned()))
        })
    })
}

fn read_pop3(table: &Table<'_>) -> Pop3 {
    table.allow(&schema::POP3);
    let on_retr = table
        .text("on_retr")
        .and_then(|at| at.parse(|text| one_of(text, &[("leave", OnRetr::Leave), ("seen", OnRetr::Seen)], "")));
    let on_dele = table.text("on_dele").and_then(|at| {
        let words =
            [OnDele::Hide, OnDele::Seen, OnDele::Archive, OnDele::Trash].map(|policy| (policy.as_str(), policy));
        at.parse(|text| one_of(text, &words, ""))
    });
    let max_messages = table.number("max_messages").and_then(|at| {
        at.parse(|n| {
            u32::try_from(*n).ok().filter(|n| *n > 0).ok_or_else(|| {
                (format!("{n} is no number of messages to show"), "Give at least 1, or leave the key out.".to_owned())
            })
        })
    });
    let separator = table.text("device_separator").and_then(|at| at.parse(|text| device_separator(text)));
    let default = Pop3::default();
    Pop3 {
        mailbox: table.word("mailbox").map_or(default.mailbox, |at| at.value.to_owned()),
        on_retr: on_retr.unwrap_or_default(),
        on_dele: on_dele.unwrap_or_default(),
        max_messages,
        device_separator: separator.unwrap_or(default.device_separator),
    }
}

/// What cannot be a part of an address's domain, so that no address is taken for another one with a device.
fn device_separator(text: &str) -> Result<String, Wrong> {
    let fine = |b: u8| b.is_ascii_punctuation() && !b"@.-".contains(&b);
    if (1..=4).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(text.to_owned());
    }
    let mend = "Use one to four signs such as \"+\", \"/\" or \"#\"; no letters, digits, blanks, `@`, `.` or `-`.";
    Err((format!("`{}` cannot stand behind an address", text.escape_debug()), mend.into()))
}

fn read_local_password(table: &Table<'_>, dir: &Path) -> Option<LocalPassword> {
    let key = "password";
    if !table.has(key) {
        let mend = "Add the password mail programs shall give: `password = { file = \"ann.pw\" }`.";
        table.fault(key, "is missing", mend);
        return None;
    }
    if bare_text(table, key) {
        return None;
    }
    let reference = table.table(key);
    if !reference.has("argon2id") {
        return read_reference(table, key, LOCAL_PASSWORD_KEYS, dir).map(LocalPassword::Secret);
    }
    reference.allow_keys(&["argon2id"], "beside `argon2id`");
    let hash = reference.text("argon2id")?.parse(|text| argon2id(text))?;
    Some(LocalPassword::Argon2id(hash))
}

/// A secret reference; an absent key is `None` without a fault.
pub(super) fn read_secret(table: &Table<'_>, key: &str, dir: &Path) -> Option<SecretRef> {
    if !table.has(key) || bare_text(table, key) {
        return None;
    }
    read_reference(table, key, SECRET_KEYS, dir)
}

fn read_reference(parent: &Table<'_>, key: &str, keys: &[&'static str], dir: &Path) -> Option<SecretRef> {
    let table = parent.table(key);
    if !table.is_present() {
        return None;
    }
    table.allow_keys(keys, "in a secret reference");
    let given: Vec<_> = SECRET_KEYS.iter().filter(|k| table.has(k)).copied().collect();
    match given.as_slice() {
        ["file"] => table.word("file").map(|at| SecretRef::File(dir.join(at.value))),
        ["env"] => table.word("env").and_then(|at| at.parse(|name| env_name(name))).map(SecretRef::Env),
        ["keyring"] => table.word("keyring").map(|at| SecretRef::Keyring(at.value.to_owned())),
        ["credential"] => {
            table.word("credential").and_then(|at| at.parse(|name| credential(name))).map(SecretRef::Credential)
        }
        ["plain"] => table.text("plain").and_then(|at| {
            if at.value.is_empty() {
                at.fault("is empty", "Give a password.");
                return None;
            }
            Some(plain_secret(at.value))
        }),
        ["command"] => {
            let argv: Vec<String> = table.list("command")?.into_iter().map(|at| at.value.to_owned()).collect();
            if argv.first().is_none_or(String::is_empty) {
                table.fault("command", "names no program", "Write program and arguments: [\"pass\", \"mail/ann\"].");
                return None;
            }
            Some(SecretRef::Command { argv, dir: dir.to_owned() })
        }
        [] => {
            table.fault(
                "",
                "names no secret",
                "Write one of { file = \"…\" }, { env = \"…\" }, { command = [\"…\"] }, { keyring = \"…\" }, { credential = \"…\" }, { plain = \"…\" }.",
            );
            None
        }
        several => {
            table.fault("", format!("names several secrets ({})", several.join(", ")), "Keep one.");
            None
        }
    }
}

/// The most natural mistake, `password = "…"`, gets its own words, and the value is not repeated.
fn bare_text(table: &Table<'_>, key: &str) -> bool {
    let bare = table.is_text(key);
    if bare {
        table.fault(
            key,
            "must say where the secret is kept",
            "Write { file = \"…\" }, { env = \"…\" } or { command = [\"…\"] }; { plain = \"…\" } if it shall stand here.",
        );
    }
    bare
}

pub(super) fn mail_address(text: &str) -> Result<String, Wrong> {
    let fine = text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    if fine && !text.chars().any(|c| c.is_control() || c.is_whitespace()) && text.len() <= 254 {
        return Ok(text.to_owned());
    }
    Err((format!("`{}` is not an e-mail address", text.escape_debug()), "Write it like \"ann@example.org\".".into()))
}

fn host(text: &str) -> Result<String, Wrong> {
    let text = text.trim();
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if text.len() <= 253 && text.bytes().all(valid) && !text.split('.').any(str::is_empty) {
        return Ok(text.to_owned());
    }
    let mend = "Write the bare name of the server, like \"imap.example.org\": the port has a key of its own.";
    Err((format!("`{text}` is not a host name"), mend.into()))
}

fn credential(text: &str) -> Result<String, Wrong> {
    if text.contains('/') || text.starts_with('.') {
        return Err(("is not the name of a credential".into(), "Write the name that LoadCredential= gives it.".into()));
    }
    Ok(text.to_owned())
}

fn env_name(text: &str) -> Result<String, Wrong> {
    if text.contains('=') || text.contains('$') {
        return Err(("is not the name of a variable".into(), "Write the name alone, without `$` or `=`.".into()));
    }
    Ok(text.to_owned())
}

fn argon2id(text: &str) -> Result<String, Wrong> {
    let fine = argon2::PasswordHash::new(text)
        .is_ok_and(|hash| hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() && hash.salt.is_some());
    if fine {
        return Ok(text.to_owned());
    }
    let mend = "It begins with \"$argon2id$v=19$\" and ends with the hash; a password in the clear goes into { plain = \"…\" }.";
    Err(("is not an argon2id hash".into(), mend.into()))
}
