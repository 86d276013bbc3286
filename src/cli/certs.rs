//! `mailweir certs show | renew | export`: the certificates of the listeners, for people.
//!
//! `show` only reads. `export` makes the local authority if there is none yet, so that mail programs can be set up before the
//! first start. `renew` signs a new leaf; a running daemon takes it up by itself.

mod profile;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::config::{Config, Fault, LocateError};
use crate::net::tls::{self, CertError, Facts, Inspection, TlsIdentity};

/// What to do with the certificates.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub(super) enum CertsCommand {
    /// Show which certificates there are, for which names, until when, and their SHA-256 fingerprints
    Show,
    /// Make a new server certificate now, for the names the configuration gives and those found
    Renew,
    /// Write what devices have to trust: the local authority's certificate, or Apple's profile with it and the mail accounts
    ///
    /// Windows and Android: --der --out mailweir-ca.crt. Thunderbird, Linux: --out mailweir-ca.pem. iPhone, iPad, Mac:
    /// --mobileconfig --out mailweir.mobileconfig. The running daemon offers the same files at /trust of its HTTP listener, for phones by a
    /// QR code. Wherever a device shows the SHA-256 fingerprint, compare it with the one of `mailweir certs show`.
    Export {
        /// The file to write; without it, standard output
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// In binary form (DER), which Windows and Android take as a .crt file
        #[arg(long)]
        der: bool,
        #[command(flatten)]
        profile: profile::Profile,
    },
}

/// Why it did not work; the text is complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertsError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Fault>),
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The configuration names a certificate of the user's own, so there is no authority of ours.
    #[error("{0}")]
    UsersOwn(&'static str),
    #[error("{0}")]
    Profile(String),
    #[error("{} cannot be written: {error}", file.display())]
    Write { file: PathBuf, error: io::Error },
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CertsError {
    /// The exit status the contract wants: 2 for a wrong configuration, else 1.
    pub(super) fn exit_status(&self) -> u8 {
        match self {
            Self::Locate(_) | Self::Config(_) => 2,
            _ => 1,
        }
    }
}

/// Runs the command with the configuration `--config` names; what it says goes to `out`.
pub(super) async fn run(
    command: CertsCommand,
    config: Option<PathBuf>,
    out: &mut (dyn Write + Send),
) -> Result<(), CertsError> {
    if let CertsCommand::Export { out: file, profile, .. } = &command
        && profile.mobileconfig
    {
        let config = Config::load(&Config::locate(config)?).map_err(CertsError::Config)?;
        let text = profile.export(config, file.as_deref()).await?;
        out.write_all(&text)?;
        return Ok(out.flush()?);
    }
    // Files and key-making block; nothing else runs in this process, but a rule is a rule (Law 4).
    let text = tokio::task::spawn_blocking(move || answer(&command, config)).await.map_err(io::Error::other)??;
    out.write_all(&text)?;
    out.flush()?;
    Ok(())
}

fn answer(command: &CertsCommand, config: Option<PathBuf>) -> Result<Vec<u8>, CertsError> {
    let config = Config::load(&Config::locate(config)?).map_err(CertsError::Config)?;
    match command {
        CertsCommand::Show => show(&config),
        CertsCommand::Renew => renew(&config),
        CertsCommand::Export { out, der, .. } => export(&config, out.as_deref(), *der),
    }
}

fn show(config: &Config) -> Result<Vec<u8>, CertsError> {
    let now = OffsetDateTime::now_utc();
    let text = match tls::inspect(&config.tls)? {
        None => format!(
            "There are no certificates yet: they are made at the first start, in {}.\n",
            config.tls.dir.display()
        ),
        Some(Inspection { authority, leaf, leaf_file }) => {
            let mut text = String::new();
            if let Some((facts, fingerprint)) = authority {
                text += &paragraph("Local authority", &config.tls.dir.join("ca.pem"), &facts, &fingerprint, now);
            }
            text + &paragraph("Server certificate", &leaf_file, &leaf.0, &leaf.1, now)
        }
    };
    Ok(text.into_bytes())
}

fn paragraph(title: &str, file: &Path, facts: &Facts, fingerprint: &str, now: OffsetDateTime) -> String {
    let left = facts.not_after - now;
    let left = if left.is_negative() { "EXPIRED".to_owned() } else { format!("{} days left", left.whole_days()) };
    let mut text = format!(
        "{title}\n  file      {}\n  subject   {}\n  issuer    {}\n  valid     {} to {} ({left})\n",
        file.display(),
        facts.subject,
        facts.issuer,
        facts.not_before.date(),
        facts.not_after.date(),
    );
    if !facts.names.is_empty() {
        text += &format!("  names     {}\n", facts.names.join(", "));
    }
    text + &format!("  SHA-256   {fingerprint}\n")
}

fn renew(config: &Config) -> Result<Vec<u8>, CertsError> {
    if config.tls.own.is_some() {
        return Err(CertsError::UsersOwn(
            "the configuration names a certificate of your own (tls.cert_file): whoever issued it renews it, and mailweir takes up the new files by itself",
        ));
    }
    let facts = tls::renew(&config.tls)?;
    let text = format!(
        "A new server certificate is valid until {}, for {}.\nA running mailweir shows it within the hour, or at once after SIGHUP. Mail programs need not be told.\n",
        facts.not_after.date(),
        facts.names.join(", ")
    );
    Ok(text.into_bytes())
}

fn export(config: &Config, out: Option<&Path>, der: bool) -> Result<Vec<u8>, CertsError> {
    let identity = TlsIdentity::open(&config.tls)?;
    let (Some(pem), Some(fingerprint)) = (identity.ca_pem(), identity.ca_fingerprint_sha256()) else {
        return Err(CertsError::UsersOwn(
            "the configuration names a certificate of your own (tls.cert_file): there is no local authority to export",
        ));
    };
    let content = if der {
        let damaged = |e| io::Error::new(io::ErrorKind::InvalidData, format!("ca.pem: {e}"));
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(damaged)?.to_vec()
    } else {
        pem.into_bytes()
    };
    let Some(file) = out else { return Ok(content) };
    std::fs::write(file, content).map_err(|error| CertsError::Write { file: file.to_owned(), error })?;
    let text = format!(
        "Wrote {}. Tell mail programs (or the system they run on) to trust it as an authority, and compare the fingerprint:\n  SHA-256   {fingerprint}\n",
        file.display()
    );
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "data_dir = \"data\"\n[listen]\nimaps = [\"localhost:0\"]\n[tls]\nnames = [\"mail.home.arpa\"]\n";

    async fn certs(command: CertsCommand, config: &Path) -> Result<String, CertsError> {
        let mut out = Vec::new();
        run(command, Some(config.to_owned()), &mut out).await?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    fn export_to(out: Option<PathBuf>, der: bool) -> CertsCommand {
        CertsCommand::Export { out, der, profile: profile::Profile::default() }
    }

    #[tokio::test]
    async fn certificates_are_exported_shown_and_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mailweir.toml");
        std::fs::write(&config, CONFIG).unwrap();
        let certs_dir = dir.path().join("data/certs");
        let none = certs(CertsCommand::Show, &config).await.unwrap();
        assert!(none.contains("no certificates yet") && !certs_dir.exists(), "{none}");

        let pem = certs(export_to(None, false), &config).await.unwrap();
        assert_eq!(pem, std::fs::read_to_string(certs_dir.join("ca.pem")).unwrap());
        assert!(!pem.contains("PRIVATE"));
        let file = dir.path().join("ca.crt");
        let words = certs(export_to(Some(file.clone()), true), &config).await.unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), der.as_ref());
        assert!(words.contains(&tls::fingerprint_sha256(&der)), "{words}");

        let shown = certs(CertsCommand::Show, &config).await.unwrap();
        for part in
            ["Local authority", "mailweir local CA", "mail.home.arpa", "days left", &tls::fingerprint_sha256(&der)]
        {
            assert!(shown.contains(part), "{part} is missing in:\n{shown}");
        }
        let before = std::fs::read(certs_dir.join("server.pem")).unwrap();
        let words = certs(CertsCommand::Renew, &config).await.unwrap();
        assert!(words.contains("localhost"), "{words}");
        assert_ne!(std::fs::read(certs_dir.join("server.pem")).unwrap(), before);
        assert_eq!(std::fs::read_to_string(certs_dir.join("ca.pem")).unwrap(), pem);
    }

    #[tokio::test]
    async fn faults_have_their_exit_status() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mailweir.toml");
        let missing = certs(CertsCommand::Show, &config).await.unwrap_err();
        assert_eq!(missing.exit_status(), 2);
        std::fs::write(&config, format!("{CONFIG}nmaes = []\n")).unwrap();
        let wrong = certs(CertsCommand::Show, &config).await.unwrap_err();
        assert!(wrong.exit_status() == 2 && wrong.to_string().contains("Did you mean `names`?"), "{wrong}");

        std::fs::write(&config, CONFIG).unwrap();
        let e = certs(export_to(Some(dir.path().join("none/ca.pem")), false), &config).await.unwrap_err();
        assert!(e.exit_status() == 1 && e.to_string().contains("none/ca.pem"), "{e}");
        std::fs::write(dir.path().join("data/certs/ca.pem"), "damaged").unwrap();
        for command in [CertsCommand::Show, CertsCommand::Renew, export_to(None, false)] {
            let e = certs(command, &config).await.unwrap_err();
            assert!(e.exit_status() == 1 && e.to_string().contains("ca.pem"), "{e}");
        }
    }

    #[tokio::test]
    async fn with_a_certificate_of_ones_own_there_is_nothing_to_renew_or_export() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mailweir.toml");
        std::fs::write(&config, CONFIG).unwrap();
        certs(export_to(None, false), &config).await.unwrap();
        std::fs::write(
            &config,
            format!("{CONFIG}cert_file = \"data/certs/server.pem\"\nkey_file = \"data/certs/server.key\"\n"),
        )
        .unwrap();
        for command in [CertsCommand::Renew, export_to(None, true)] {
            let e = certs(command, &config).await.unwrap_err();
            assert!(e.to_string().contains("of your own"), "{e}");
        }
        let shown = certs(CertsCommand::Show, &config).await.unwrap();
        assert!(shown.contains("Server certificate") && !shown.contains("Local authority"), "{shown}");
    }
}
