//! `mailweir certs export --mobileconfig`: the authority and the mail accounts for Apple's devices, in one file.

use std::net::IpAddr;
use std::path::Path;

use clap::Args;

use super::CertsError;
use crate::config::{Account, Config, LocalPassword};
use crate::daemon::setup::apple::{self, Mailbox};
use crate::daemon::setup::{Offer, Protocol};
use crate::net::files::{Access, write_atomic};
use crate::net::{TlsIdentity, own_names};
use crate::secret::Secret;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Profile {
    /// As a configuration profile for iOS, iPadOS and macOS, with the accounts of the configuration (it needs imaps and submissions)
    #[arg(long, conflicts_with = "der")]
    pub(super) mobileconfig: bool,
    /// Only this account in the profile; may be given more than once. Default: all
    #[arg(long, value_name = "ADDRESS", requires = "mobileconfig")]
    account: Vec<String>,
    /// The name or address by which the device reaches this computer. Default: the first of tls.names that leads here from
    /// elsewhere, else a name of this computer in the local network; localhost where only this computer is served
    #[arg(long, value_name = "NAME", requires = "mobileconfig")]
    host: Option<String>,
    /// Read mail by POP3 instead of IMAP
    #[arg(long, requires = "mobileconfig")]
    pop3: bool,
    /// Put the passwords into the file, too, which is then readable by you alone. Without it the device asks, once
    #[arg(long, requires_all = ["mobileconfig", "out"])]
    with_passwords: bool,
}

impl Profile {
    /// Writes the profile to `out`, or gives it back; what to print.
    pub(super) async fn export(&self, config: Config, out: Option<&Path>) -> Result<Vec<u8>, CertsError> {
        let mut mailboxes = Vec::new();
        for account in self.accounts(&config)? {
            let password = if self.with_passwords { Some(password_of(account).await?) } else { None };
            mailboxes.push(Mailbox { address: account.address.clone(), password });
        }
        let tls = config.tls.clone();
        let opening = tokio::task::spawn_blocking(move || TlsIdentity::open(&tls)).await;
        let identity = opening.map_err(std::io::Error::other)??;
        let damaged = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("ca.pem: {e}"));
        let pem = identity.ca_pem();
        let authority = pem.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(damaged)).transpose()?;
        let listeners: Vec<_> =
            config.listen.all().into_iter().flat_map(|(key, at)| at.iter().map(move |at| (key, *at))).collect();
        let host = self.host(&config, &identity.facts().names)?;
        let offer = Offer::new(host, &listeners);
        let incoming = if self.pop3 { Protocol::Pop3 } else { Protocol::Imap };
        let profile = apple::profile(authority.as_deref(), &offer, incoming, &mailboxes)
            .map_err(|error| CertsError::Profile(error.to_string()))?;
        let Some(file) = out else { return Ok(profile) };
        let access = if self.with_passwords { Access::OwnerOnly } else { Access::Everybody };
        write_atomic(file, &profile, access).map_err(|error| CertsError::Write { file: file.to_owned(), error })?;
        let mut text = format!(
            "Wrote {} for {}; mail is at {}.\nOn a phone: open it, install it in the settings, then trust the authority under General, About, Certificate Trust Settings. Compare the fingerprint:\n  SHA-256   {}\n",
            file.display(),
            mailboxes.iter().map(|mailbox| mailbox.address.as_str()).collect::<Vec<_>>().join(", "),
            offer.host,
            identity.ca_fingerprint_sha256().unwrap_or_else(|| "(a certificate of your own)".to_owned()),
        );
        if self.with_passwords {
            text += "It holds passwords and is not encrypted: delete it when the device has it.\n";
        }
        Ok(text.into_bytes())
    }

    fn accounts<'a>(&self, config: &'a Config) -> Result<Vec<&'a Account>, CertsError> {
        if self.account.is_empty() {
            return Ok(config.accounts.iter().collect());
        }
        let find = |address: &String| {
            let unknown = || CertsError::Profile(format!("{} has no account {address}", config.file.display()));
            config.account(address).ok_or_else(unknown)
        };
        self.account.iter().map(find).collect()
    }

    /// The name the device is told; it must be in the certificate (`certified`), or every connection would fail.
    fn host(&self, config: &Config, certified: &[String]) -> Result<String, CertsError> {
        if let Some(host) = &self.host {
            let host = host.to_ascii_lowercase();
            let parent = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            if certified.contains(&host) || parent.is_some_and(|parent| certified.contains(&parent)) {
                return Ok(host);
            }
            return Err(CertsError::Profile(format!(
                "the certificate is not made for {host}; add it to tls.names (it is made for {})",
                certified.join(", ")
            )));
        }
        let listen = &config.listen;
        if listen.imaps.iter().chain(&listen.pop3s).all(|at| at.ip().is_loopback()) {
            return Ok("localhost".to_owned());
        }
        let from_elsewhere = |name: &&String| {
            let loopback = name.as_str() == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            !loopback && !name.starts_with("*.")
        };
        let found = own_names();
        // Apple's systems resolve `.local` themselves, and it outlives a changed address.
        let local = found.iter().find(|name| name.ends_with(".local") && certified.contains(name));
        let any = || found.iter().rfind(|name| certified.contains(name)).cloned();
        let chosen = config.tls.names.iter().find(from_elsewhere).or(local).cloned().or_else(any);
        chosen.ok_or_else(|| CertsError::Profile("tell the name of this computer by --host".to_owned()))
    }
}

async fn password_of(account: &Account) -> Result<Secret, CertsError> {
    match &account.password {
        LocalPassword::Secret(reference) => {
            reference.resolve().await.map_err(|error| CertsError::Profile(format!("{}: {error}", account.address)))
        }
        LocalPassword::Argon2id(_) => Err(CertsError::Profile(format!(
            "{}: the configuration holds only a hash of its password, which no device can use",
            account.address
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CertsCommand, run};
    use super::*;

    const CONFIG: &str = "data_dir = \"data\"\n[listen]\nimaps = [\"127.0.0.1:1993\"]\nsubmissions = [\"127.0.0.1:1465\"]\n[tls]\nnames = [\"mail.lan\"]\n[[account]]\naddress = \"ann@example.org\"\npassword = { plain = \"hunter2\" }\n[account.imap]\nhost = \"imap.example.org\"\npassword = { plain = \"upstream\" }\n";

    async fn export(config: &str, profile: Profile, out: bool) -> (Result<(), CertsError>, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let (file, written) = (dir.path().join("mailweir.toml"), dir.path().join("x.mobileconfig"));
        std::fs::write(&file, config).unwrap();
        let mut said = Vec::new();
        let command = CertsCommand::Export { out: out.then(|| written.clone()), der: false, profile };
        let done = run(command, Some(file), &mut said).await;
        #[cfg(unix)]
        if let Ok(metadata) = std::fs::metadata(&written) {
            use std::os::unix::fs::PermissionsExt;
            let private = metadata.permissions().mode() & 0o077 == 0;
            assert_eq!(private, std::fs::read_to_string(&written).unwrap().contains("hunter2"));
        }
        let written = std::fs::read_to_string(written).unwrap_or_default();
        (done, String::from_utf8(said).unwrap(), written)
    }

    fn wanted() -> Profile {
        Profile { mobileconfig: true, ..Profile::default() }
    }

    #[tokio::test]
    async fn the_profile_holds_the_authority_and_the_accounts() {
        let (done, said, _) = export(CONFIG, wanted(), false).await;
        done.unwrap();
        for part in [
            "com.apple.security.root",
            "com.apple.mail.managed",
            "<string>localhost</string>",
            "<integer>1465</integer>",
        ] {
            assert!(said.contains(part), "{part} is missing in {said}");
        }
        assert!(!said.contains("hunter2") && !said.contains("upstream"));
        let lan = CONFIG.replace("[tls]", "lan = true\n[tls]");
        let (done, said, written) = export(&lan, Profile { with_passwords: true, ..wanted() }, true).await;
        done.unwrap();
        assert!(
            written.contains("<string>mail.lan</string>") && written.contains("<string>hunter2</string>"),
            "{written}"
        );
        assert!(said.contains("SHA-256") && said.contains("delete it") && !said.contains("hunter2"), "{said}");
    }

    #[tokio::test]
    async fn what_cannot_be_is_told() {
        let table = [
            (Profile { account: vec!["bob@example.org".into()], ..wanted() }, "no account bob@example.org"),
            (Profile { host: Some("mail.example.com".into()), ..wanted() }, "add it to tls.names"),
            (Profile { pop3: true, ..wanted() }, "listen.pop3s"),
        ];
        for (profile, words) in table {
            let error = export(CONFIG, profile, false).await.0.unwrap_err();
            assert!(error.to_string().contains(words) && error.exit_status() == 1, "{error}");
        }
        let hash = "{ argon2id = \"$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$ioLUP8dA1ydsxyJHYzCYbw\" }";
        let config = CONFIG.replace("{ plain = \"hunter2\" }", hash);
        let error = export(&config, Profile { with_passwords: true, ..wanted() }, true).await.0.unwrap_err();
        assert!(error.to_string().contains("hash"), "{error}");
    }
}
