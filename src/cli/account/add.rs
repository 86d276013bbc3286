//! `mailweir account add`: from an address to an account that works, in one command.
//!
//! Preset by the domain, else what the domain tells of itself, else what the flags say or a person answers; a real login before
//! anything is written; then the configuration, and a word to the daemon that runs. Done twice it changes nothing the second time.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use argon2::PasswordHasher;
use argon2::password_hash::SaltString;
use clap::Args;
use rand::Rng;

use super::discover::{self, Found, Offer, Place};
use super::edit::{self, Entry};
use super::{show, tell};
use crate::cli::check::{log_in, sending};
use crate::cli::login::{self, Flow};
use crate::cli::progress;
use crate::config::{Account, Config, TlsMode};
use crate::daemon::tokens::Vault;
use crate::net::files::{Access, write_atomic};
use crate::provider::{self, Auth, Preset};
use crate::secret::{Secret, SecretRef};
use crate::upstream::Credentials;

/// What a local password is made of: nothing that looks like something else. Twenty of them are 99 bits.
const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// The mailbox's address.
    address: String,
    /// The provider, if its domain does not tell: gmail, outlook, office365, yahoo, aol, yandex, mailru, icloud, fastmail.
    #[arg(long)]
    provider: Option<String>,
    /// The provider's IMAP server.
    #[arg(long, value_name = "HOST[:PORT]")]
    imap: Option<String>,
    /// How the connection to it is encrypted: implicit, starttls or none. Default: by the port.
    #[arg(long, value_name = "MODE", requires = "imap")]
    imap_tls: Option<String>,
    /// The provider's server for sending.
    #[arg(long, value_name = "HOST[:PORT]")]
    smtp: Option<String>,
    #[arg(long, value_name = "MODE", requires = "smtp")]
    smtp_tls: Option<String>,
    /// The authority of a server of your own, PEM.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The user name at the provider, if it is not the address.
    #[arg(long)]
    username: Option<String>,
    /// A file with the provider's password; it is referred to, not copied. Without this it is asked for.
    #[arg(long, value_name = "FILE", group = "upstream")]
    upstream_password_file: Option<PathBuf>,
    /// An environment variable with it.
    #[arg(long, value_name = "NAME", group = "upstream")]
    upstream_password_env: Option<String>,
    /// The keyring's entry with it (service "mailweir", this account name).
    #[arg(long, value_name = "NAME", group = "upstream")]
    upstream_password_keyring: Option<String>,
    /// Log in by OAuth with the application registered under this id.
    #[arg(long, value_name = "ID", group = "upstream")]
    client_id: Option<String>,
    /// A file with that application's secret.
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_secret_file: Option<PathBuf>,
    /// Microsoft only: the organisation's tenant.
    #[arg(long, requires = "client_id")]
    tenant: Option<String>,
    /// The authorization server of a provider mailweir does not know: where tokens are had.
    #[arg(long, value_name = "URL", requires = "client_id")]
    token_url: Option<String>,
    /// Where one consents with a browser.
    #[arg(long, value_name = "URL", requires = "client_id")]
    authorize_url: Option<String>,
    /// Where one consents on another device.
    #[arg(long, value_name = "URL", requires = "client_id")]
    device_url: Option<String>,
    /// What is asked for; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", requires = "client_id")]
    scopes: Vec<String>,
    /// A file with the password mail programs shall give. Without this one is made, and shown once.
    #[arg(long, value_name = "FILE")]
    local_password_file: Option<PathBuf>,
    /// Ask nothing: fail where something is missing. A consent by OAuth is left to `account login`.
    #[arg(long)]
    non_interactive: bool,
    /// Write the account without logging in at the provider first.
    #[arg(long)]
    no_test: bool,
    /// An autoconfig document to read instead of those of the domain and Thunderbird's.
    #[arg(long, value_name = "URL")]
    autoconfig: Option<String>,
    /// The name server to ask, instead of the system's.
    #[arg(long, value_name = "ADDRESS:PORT")]
    nameserver: Option<SocketAddr>,
    #[command(flatten)]
    flow: Flow,
}

impl Add {
    /// What to print at the end.
    pub(super) async fn run(self, path: &Path) -> Result<String, String> {
        let text = edit::read(path)?;
        if let Ok(config) = Config::parse(path, &text)
            && let Some(account) = config.account(&self.address)
        {
            return self.again(&config, account).await;
        }
        let local = match &self.local_password_file {
            Some(file) => SecretRef::File(absolute(file)?).resolve().await.map_err(|error| error.to_string())?,
            None => Secret::new(make_password()),
        };
        let entry = Entry { address: self.address.clone(), hash: hash(&local)?, ..Entry::default() };
        let (config, words) = match &self.client_id {
            Some(id) => self.by_oauth(path, &text, entry, id).await?,
            None => self.by_password(path, &text, entry).await?,
        };
        let told = tell::reload(&config);
        let account = config.account(&self.address).ok_or("the account was written and is not there")?;
        let shown = std::str::from_utf8(local.expose()).ok().filter(|_| self.local_password_file.is_none());
        let settings = show::settings(&config, account, shown);
        Ok(format!("{words}\nWritten to {}. {told}\n{settings}", path.display()))
    }

    /// The account is there already: nothing is changed, and it is tried.
    async fn again(&self, config: &Config, account: &Account) -> Result<String, String> {
        let mut words = format!("{} is in {} already; nothing was changed.\n", account.address, config.file.display());
        if !self.no_test {
            let way = Vault::open(config).await?.way(account).await?;
            words.push_str(&log_in(account, way.credentials()).await.map_err(|error| format!("{words}{error}"))?);
            words.push_str(".\n");
            if let Some(Ok(told) | Err(told)) = sending(account, way.credentials()).await {
                words.push_str(&told);
                words.push('\n');
            }
        }
        Ok(words + &show::settings(config, account, None))
    }

    async fn by_oauth(&self, path: &Path, text: &str, mut entry: Entry, id: &str) -> Result<(Config, String), String> {
        let mut passed = Vec::new();
        let mut chosen = None;
        for offer in self.candidates().await? {
            if offer.vouched || self.confirm(&offer)? {
                chosen = Some(offer);
                break;
            }
            passed.push(of_another_domain(&offer));
        }
        let nothing = || if passed.is_empty() { self.nothing_found() } else { passed.join("\n") };
        self.take(&mut entry, &chosen.ok_or_else(nothing)?)?;
        entry.oauth2.push(("client_id", id.into()));
        if let Some(file) = &self.client_secret_file {
            let mut reference = toml_edit::InlineTable::new();
            reference.insert("file", shown(&absolute(file)?).into());
            entry.oauth2.push(("client_secret", reference.into()));
        }
        if let Some(tenant) = &self.tenant {
            entry.oauth2.push(("tenant", tenant.as_str().into()));
        }
        let urls =
            [("token_url", &self.token_url), ("authorize_url", &self.authorize_url), ("device_url", &self.device_url)];
        let urls = urls.into_iter().filter_map(|(key, url)| Some((key, url.as_deref()?.into())));
        entry.oauth2.extend(urls);
        if !self.scopes.is_empty() {
            entry.oauth2.push(("scopes", edit::list(&self.scopes)));
        }
        let more = edit::add(text, &entry)?;
        let config = parse(path, &more)?;
        let account = config.account(&entry.address).ok_or("the account is not there")?;
        let words = if self.non_interactive || self.no_test {
            format!("{}: now run `mailweir account login {}` to consent", entry.address, entry.address)
        } else {
            login::run(&config, account, &self.flow).await?
        };
        Ok((edit::write_more(path, &entry)?, words))
    }

    async fn by_password(&self, path: &Path, text: &str, entry: Entry) -> Result<(Config, String), String> {
        let mut tried = Vec::new();
        let candidates = self.candidates().await?;
        let mut asked = None;
        for offer in &candidates {
            let mut entry = entry.clone();
            self.take(&mut entry, offer)?;
            if let Found::Preset(preset) = &offer.found
                && !preset.takes_password()
            {
                tried.push(format!("{}: {} Give --client-id.", preset.title, preset.password_hint));
                continue;
            }
            if !offer.vouched && !self.confirm(offer)? {
                tried.push(of_another_domain(offer));
                continue;
            }
            let password = match &asked {
                Some(known) => Secret::clone(known),
                None => asked.insert(self.upstream_password(offer).await?).clone(),
            };
            entry.password = Some(self.reference(path)?);
            let more = edit::add(text, &entry)?;
            let config = parse(path, &more)?;
            let account = config.account(&entry.address).ok_or("the account is not there")?;
            let words = match self.no_test {
                true => Ok("not tried".to_owned()),
                false => log_in(account, Credentials::Password(password.clone())).await,
            };
            match words {
                Ok(words) => {
                    let sends = if self.no_test { None } else { self.try_sending(account, &password).await? };
                    if let Some(file) = self.written_password(path) {
                        let written = write_atomic(&file, password.expose(), Access::OwnerOnly);
                        written.map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
                    }
                    let words = format!("By {}: {words}.{}", offer.source, sends.unwrap_or_default());
                    return Ok((edit::write_more(path, &entry)?, words));
                }
                Err(error) => tried.push(format!("by {}: {error}{}", offer.source, hint(offer))),
            }
        }
        Err(if tried.is_empty() { self.nothing_found() } else { tried.join("\n") })
    }

    /// Logs in at the server for sending, if one was found; what to tell, a line of its own. A server that was named by a flag must take
    /// the login; with one that was found, reading is worth having without it.
    async fn try_sending(&self, account: &Account, password: &Secret) -> Result<Option<String>, String> {
        match sending(account, Credentials::Password(password.clone())).await {
            None => Ok(Some(" No server for sending is known; --smtp names one.".to_owned())),
            Some(Ok(words)) => Ok(Some(format!("\n{words}"))),
            Some(Err(words)) if self.smtp.is_some() => {
                Err(format!("{words}\nNothing was written; without --smtp the account is added for reading."))
            }
            Some(Err(words)) => Ok(Some(format!("\n{words}"))),
        }
    }

    /// Where the mailbox may be, the best first.
    async fn candidates(&self) -> Result<Vec<Offer>, String> {
        if let Some(imap) = &self.imap {
            let imap = place(imap, self.imap_tls.as_deref(), 993)?;
            let smtp = self.smtp.as_ref().map(|smtp| place(smtp, self.smtp_tls.as_deref(), 465)).transpose()?;
            let found = Found::Servers { imap, smtp, username: None };
            return Ok(vec![Offer { source: "the servers named".into(), found, vouched: true }]);
        }
        let preset = match &self.provider {
            Some(name) => {
                Some(provider::by_name(name).ok_or_else(|| format!("`{name}` is not a provider mailweir knows"))?)
            }
            None => provider::by_address(&self.address),
        };
        if let Some(preset) = preset {
            return Ok(vec![Offer { source: preset.title.clone(), found: Found::Preset(preset), vouched: true }]);
        }
        println!("Looking for the servers of {}…", self.address);
        let _busy = progress::busy("Asking the domain and Thunderbird's list");
        Ok(discover::offers(&self.address, self.autoconfig.as_deref(), self.nameserver).await)
    }

    fn take(&self, entry: &mut Entry, offer: &Offer) -> Result<(), String> {
        match &offer.found {
            Found::Preset(preset) => {
                let by_domain = provider::by_address(&self.address).map(|found| found.name.as_str());
                entry.provider = (by_domain != Some(preset.name.as_str())).then(|| preset.name.clone());
            }
            Found::Servers { imap, smtp, username } => {
                (entry.imap, entry.smtp) = (Some(imap.clone()), smtp.clone());
                entry.username.clone_from(username);
            }
        }
        if self.username.is_some() {
            entry.username.clone_from(&self.username);
        }
        entry.ca_file = self.ca_file.as_deref().map(absolute).transpose()?.as_deref().map(shown);
        Ok(())
    }

    fn confirm(&self, offer: &Offer) -> Result<bool, String> {
        if self.non_interactive {
            return Ok(false);
        }
        let Found::Servers { imap, smtp, .. } = &offer.found else { return Ok(true) };
        // Both are given it.
        let hosts = match smtp.as_ref().filter(|smtp| smtp.host != imap.host) {
            Some(smtp) => format!("{} and {}", imap.host, smtp.host),
            None => imap.host.clone(),
        };
        let what = if self.client_id.is_some() { "access tokens" } else { "password" };
        let question = format!("{} name {hosts}: another domain. Give it your {what}? [y/N] ", offer.source);
        Ok(ask(&question)?.eq_ignore_ascii_case("y"))
    }

    async fn upstream_password(&self, offer: &Offer) -> Result<Secret, String> {
        if let Some((key, text)) = self.named_reference()? {
            let reference = match key {
                "file" => SecretRef::File(text.into()),
                "env" => SecretRef::Env(text),
                _ => SecretRef::Keyring(text),
            };
            return reference.resolve().await.map_err(|error| error.to_string());
        }
        if self.non_interactive {
            return Err("the provider's password is missing: give --upstream-password-file, -env or -keyring".into());
        }
        if let Found::Preset(preset) = &offer.found {
            println!("{}", preset.password_hint);
        }
        let prompt = format!("Password of {} at the provider: ", self.address);
        let typed = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt)).await;
        let typed = typed
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("no password can be asked for: {error}"))?;
        if typed.is_empty() {
            return Err("no password was given".into());
        }
        Ok(Secret::new(typed))
    }

    /// The reference the flags name.
    fn named_reference(&self) -> Result<Option<(&'static str, String)>, String> {
        Ok(match (&self.upstream_password_file, &self.upstream_password_env, &self.upstream_password_keyring) {
            (Some(file), ..) => Some(("file", shown(&absolute(file)?))),
            (_, Some(name), _) => Some(("env", name.clone())),
            (.., Some(name)) => Some(("keyring", name.clone())),
            _ => None,
        })
    }

    /// What the configuration says of the upstream password.
    fn reference(&self, path: &Path) -> Result<(&'static str, String), String> {
        let own = || ("file", self.written_password(path).as_deref().map(shown).unwrap_or_default());
        Ok(self.named_reference()?.unwrap_or_else(own))
    }

    /// The file of our own for a password that was typed.
    fn written_password(&self, path: &Path) -> Option<PathBuf> {
        let named = self.upstream_password_file.is_some()
            || self.upstream_password_env.is_some()
            || self.upstream_password_keyring.is_some();
        (!named).then(|| own_password_file(path, &self.address))
    }

    fn nothing_found(&self) -> String {
        format!(
            "nothing tells where the mailbox of {} is (no preset, autoconfig document, SRV record or known mail exchanger); name its server with --imap HOST",
            self.address
        )
    }
}

/// Beside the configuration `path`: the file with the provider's password, if it was typed.
pub(super) fn own_password_file(path: &Path, address: &str) -> PathBuf {
    let name = address.to_ascii_lowercase().replace(['/', '\\'], "_");
    path.with_file_name(format!("{name}.pw"))
}

/// Why an offer nobody vouches for was passed over.
fn of_another_domain(offer: &Offer) -> String {
    format!("{} names servers of another domain; name them with --imap to use them", offer.source)
}

/// What a refused password may be for.
fn hint(offer: &Offer) -> String {
    match &offer.found {
        Found::Preset(Preset { password_hint, auth, .. }) => {
            let oauth = if auth.contains(&Auth::OAuth2) { " Or use OAuth: --client-id." } else { "" };
            format!("\n  {password_hint}{oauth}")
        }
        Found::Servers { .. } => String::new(),
    }
}

fn parse(path: &Path, text: &str) -> Result<Config, String> {
    Config::parse(path, text).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
fn place(text: &str, tls: Option<&str>, default: u16) -> Result<Place, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.starts_with('[') => {
            let port = port.parse::<u16>().map_err(|_| format!("`{port}` is not a port"))?;
            (host.trim_matches(['[', ']']), Some(port))
        }
        _ => (text, None),
    };
    let tls = match tls {
        Some("implicit") => TlsMode::Implicit,
        Some("starttls") => TlsMode::StartTls,
        Some("none") => TlsMode::None,
        Some(other) => return Err(format!("`{other}` is no encryption: write implicit, starttls or none")),
        None if matches!(port, Some(143 | 587 | 25)) => TlsMode::StartTls,
        None => TlsMode::Implicit,
    };
    let usual = if tls == TlsMode::Implicit {
        default
    } else if default == 993 {
        143
    } else {
        587
    };
    Ok(Place { host: host.to_owned(), port: port.unwrap_or(usual), tls })
}

fn absolute(file: &Path) -> Result<PathBuf, String> {
    std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn ask(question: &str) -> Result<String, String> {
    print!("{question}");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| error.to_string())?;
    Ok(line.trim().to_owned())
}

/// Four groups of five.
fn make_password() -> String {
    let mut random = rand::rng();
    let mut group = || -> String {
        (0..5)
            .filter_map(|_| LETTERS.get(random.random_range(0..LETTERS.len())))
            .map(|letter| char::from(*letter))
            .collect()
    };
    [group(), group(), group(), group()].join("-")
}

fn hash(password: &Secret) -> Result<String, String> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(|error| error.to_string())?;
    let hashed = argon2::Argon2::default().hash_password(password.expose(), &salt);
    hashed.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let table = [
            ("imap.example.org", None, ("imap.example.org", 993, TlsMode::Implicit)),
            ("imap.example.org:143", None, ("imap.example.org", 143, TlsMode::StartTls)),
            ("imap.example.org", Some("starttls"), ("imap.example.org", 143, TlsMode::StartTls)),
            ("localhost:1430", Some("none"), ("localhost", 1430, TlsMode::None)),
            ("[::1]:1993", None, ("::1", 1993, TlsMode::Implicit)),
        ];
        for (text, tls, (host, port, mode)) in table {
            assert_eq!(place(text, tls, 993).unwrap(), Place { host: host.into(), port, tls: mode }, "{text}");
        }
        assert!(place("h:x", None, 993).is_err() && place("h", Some("ssl"), 993).is_err());
    }

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, other) = (make_password(), make_password());
        assert!(one.len() == 23 && one != other, "{one} {other}");
        let local = Secret::new(one.as_bytes());
        let hashed = hash(&local).unwrap();
        assert!(hashed.starts_with("$argon2id$") && hashed != hash(&local).unwrap());
    }
}
