//! The certificate our listeners show, and its keeping: made, renewed and reloaded without a restart.
//!
//! [`TlsIdentity`] holds one [`ServerConfig`] for all listeners for the life of the process. The certificate in it is asked for at
//! each handshake and can be swapped underneath, so a renewal touches no connection and no listener.
//!
//! It is either a leaf of the local authority (`ca`), or the user's own certificate, read again when its files change. A renewal that
//! fails leaves the certificate in use alone and is said in the log; a start with a damaged file fails.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig, SupportedCipherSuite};

use super::ca::{Authority, Leaf, Material, Names, RENEW_BEFORE};
pub use super::ca::{CertError, Facts};
use super::names;
use crate::config;

/// How often the leaf's end and names are looked at. Daily would do for the end; a timer stands still while a laptop
/// sleeps, though, and a look costs four small files.
const CHECK_OUR_LEAF: Duration = Duration::from_secs(3600);

/// How often the files of the user's own certificate are looked at: whoever renews them (certbot, a copy by cron) does not tell us.
const CHECK_USERS_FILES: Duration = Duration::from_secs(60);

/// The identity of our listeners. Cheap to share behind an [`Arc`].
#[derive(Debug)]
pub struct TlsIdentity {
    server: Arc<ServerConfig>,
    current: Arc<Current>,
    settings: RwLock<config::Tls>,
}

impl TlsIdentity {
    /// Makes or reads the certificate. Blocks on the disk (and, the first time, on making two keys): for startup, or a blocking task.
    pub fn open(settings: &config::Tls) -> Result<Self, CertError> {
        let loaded = load(settings, Leaf::Keep, &names::found(), OffsetDateTime::now_utc())?;
        Self::with(settings, loaded)
    }

    fn with(settings: &config::Tls, loaded: Loaded) -> Result<Self, CertError> {
        let current = Arc::new(Current(RwLock::new(Arc::new(loaded))));
        let making = |e: tokio_rustls::rustls::Error| CertError::Making(e.to_string());
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(DEFAULT_VERSIONS)
            .map_err(making)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        // A client that polls every minute resumes instead of paying for a signature each time.
        server.ticketer = ring::Ticketer::new().map_err(making)?;
        Ok(Self { server: Arc::new(server), current, settings: RwLock::new(settings.clone()) })
    }

    /// The configuration for [`super::Stream::start_tls_server`]: ring, TLS 1.2 and 1.3, session tickets. One for the life of the process.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Takes new settings, reads all files again and renews the leaf if it is due. On an error what was in use stays in use.
    /// Blocks, as [`TlsIdentity::open`] does.
    pub fn reload(&self, settings: &config::Tls) -> Result<(), CertError> {
        let loaded = load(settings, Leaf::Keep, &names::found(), OffsetDateTime::now_utc())?;
        self.current.swap(loaded);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        Ok(())
    }

    /// The authority's certificate, for mail programs to trust; `None` with a certificate of the user's own.
    pub fn ca_pem(&self) -> Option<String> {
        self.current.get().ca_pem.clone()
    }

    /// SHA-256 of the authority's certificate as mail programs show it, `AB:CD:…`.
    pub fn ca_fingerprint_sha256(&self) -> Option<String> {
        let pem = self.ca_pem()?;
        CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| fingerprint_sha256(&der))
    }

    /// The same of the local authority's; `None` with a certificate of the user's own.
    pub fn authority(&self) -> Option<Facts> {
        let pem = self.ca_pem()?;
        CertificateDer::from_pem_slice(pem.as_bytes()).ok().and_then(|der| Facts::of(&der))
    }

    /// What the certificate in use says of itself.
    pub fn facts(&self) -> Facts {
        self.current.get().facts.clone()
    }

    /// Renews and reloads until `stop` becomes true (or its sender is gone): the leaf of the local authority is looked at hourly,
    /// the user's own files every minute.
    pub async fn keep_fresh(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
            let pause = if settings.own.is_some() { CHECK_USERS_FILES } else { CHECK_OUR_LEAF };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
            let this = Arc::clone(&self);
            let outcome = tokio::task::spawn_blocking(move || this.refresh(&settings)).await;
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::error!("the certificate in use stays, as the new one cannot be: {e}"),
                Err(e) => tracing::error!("looking after the certificate failed: {e}"),
            }
        }
    }

    /// One look: reads again what has changed.
    fn refresh(&self, settings: &config::Tls) -> Result<(), CertError> {
        let now = OffsetDateTime::now_utc();
        if let Some(own) = &settings.own {
            let stamp = Stamp::of(&own.cert_file, &own.key_file);
            let before = self.current.get();
            if before.stamp.as_ref() == Some(&stamp) {
                return Ok(());
            }
        }
        let loaded = load(settings, Leaf::Keep, &names::found(), now)?;
        if loaded.key.cert != self.current.get().key.cert {
            tracing::info!(until = %loaded.facts.not_after.date(), "the listeners show a new certificate");
        }
        self.current.swap(loaded);
        Ok(())
    }
}

/// Makes a new leaf now, for the names wanted now, whatever the old one's age. A running daemon takes it up at its next reload.
pub fn renew(settings: &config::Tls) -> Result<Facts, CertError> {
    Ok(load(settings, Leaf::Replace, &names::found(), OffsetDateTime::now_utc())?.facts)
}

/// What stands in the files now; nothing is made, renewed or mended.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The local authority and its fingerprint; `None` with a certificate of the user's own.
    pub authority: Option<(Facts, String)>,
    /// The certificate the listeners show, and its fingerprint.
    pub leaf: (Facts, String),
    /// The file the leaf stands in.
    pub leaf_file: PathBuf,
}

/// Reads the certificates without touching anything; `None` when there are none yet.
pub fn inspect(settings: &config::Tls) -> Result<Option<Inspection>, CertError> {
    let leaf_file = settings.own.as_ref().map_or_else(|| settings.dir.join("server.pem"), |own| own.cert_file.clone());
    let authority = if settings.own.is_none() {
        let Some(found) = read_facts(&settings.dir.join("ca.pem"))? else { return Ok(None) };
        Some(found)
    } else {
        None
    };
    Ok(read_facts(&leaf_file)?.map(|leaf| Inspection { authority, leaf, leaf_file }))
}

fn read_facts(file: &Path) -> Result<Option<(Facts, String)>, CertError> {
    if !file.exists() {
        return Ok(None);
    }
    let pem = read_users(file)?;
    let der = CertificateDer::from_pem_slice(&pem).ok();
    let facts = der.and_then(|der| Some((Facts::of(&der)?, fingerprint_sha256(&der))));
    facts.map(Some).ok_or_else(|| CertError::File {
        file: file.to_owned(),
        reason: "no certificate can be read from it".into(),
        mend: "Put it back from a backup, or see `certs/README.md` on what may be deleted.".into(),
    })
}

/// SHA-256 of a certificate in the usual notation, `AB:CD:…`.
pub fn fingerprint_sha256(der: &[u8]) -> String {
    // The provider's own hash, reached through a suite that uses it: saves a second implementation of SHA-256.
    let SupportedCipherSuite::Tls13(suite) = ring::cipher_suite::TLS13_AES_128_GCM_SHA256 else { return String::new() };
    let digest = suite.common.hash_provider.hash(der);
    digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

/// The certificate in use; asked at each handshake.
#[derive(Debug)]
struct Current(RwLock<Arc<Loaded>>);

impl Current {
    fn get(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn swap(&self, loaded: Loaded) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().key))
    }
}

/// A certificate read, checked and ready.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    ca_pem: Option<String>,
    facts: Facts,
    /// Of the user's own files.
    stamp: Option<Stamp>,
}

/// By what a change of two files is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp([Option<(SystemTime, u64)>; 2]);

impl Stamp {
    fn of(cert: &Path, key: &Path) -> Self {
        let one = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self([one(cert), one(key)])
    }
}

fn load(settings: &config::Tls, leaf: Leaf, found: &[String], now: OffsetDateTime) -> Result<Loaded, CertError> {
    // Before the files are read: a change in between is then seen as one at the next look.
    let stamp = settings.own.as_ref().map(|own| Stamp::of(&own.cert_file, &own.key_file));
    let material = match &settings.own {
        None => {
            let names = Names { configured: &settings.names, found };
            Authority::new(&settings.dir, now).ensure(names, leaf)?
        }
        Some(own) => Material {
            cert_pem: read_users(&own.cert_file)?,
            key_pem: read_users(&own.key_file)?,
            cert_file: own.cert_file.clone(),
            key_file: own.key_file.clone(),
            ca_pem: None,
        },
    };
    let (key, facts) = certify(&material, &ring::default_provider())?;
    if settings.own.is_some() {
        warn_of_end(&facts, now);
    }
    Ok(Loaded { key: Arc::new(key), ca_pem: material.ca_pem, facts, stamp })
}

fn certify(material: &Material, provider: &CryptoProvider) -> Result<(CertifiedKey, Facts), CertError> {
    let fault = |file: &Path, reason: String, mend: &str| CertError::File {
        file: file.to_owned(),
        reason,
        mend: mend.to_owned(),
    };
    let cert_mend = "It must hold the certificate chain in PEM form, the server's own first.";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&material.cert_pem).collect();
    let chain = chain.map_err(|e| fault(&material.cert_file, format!("it is damaged: {e}"), cert_mend))?;
    let facts = chain.first().and_then(|der| Facts::of(der));
    let facts =
        facts.ok_or_else(|| fault(&material.cert_file, "no certificate can be read from it".into(), cert_mend))?;
    let key_mend = "It must hold the certificate's private key in PEM form, without a passphrase.";
    let key = PrivateKeyDer::from_pem_slice(&material.key_pem)
        .map_err(|e| fault(&material.key_file, format!("no private key can be read from it: {e}"), key_mend))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|e| fault(&material.key_file, format!("the private key cannot be used: {e}"), key_mend))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| {
        let reason = format!("it does not belong to the key in {}", material.key_file.display());
        fault(&material.cert_file, reason, "Give the two files that were made together.")
    })?;
    Ok((certified, facts))
}

fn read_users(file: &Path) -> Result<Vec<u8>, CertError> {
    std::fs::read(file).map_err(|e| CertError::File {
        file: file.to_owned(),
        reason: format!("it cannot be read: {e}"),
        mend: "Check the file's rights and the settings under [tls].".into(),
    })
}

/// A certificate of the user's own is not ours to renew, but its end should not come as a surprise.
fn warn_of_end(facts: &Facts, now: OffsetDateTime) {
    let left = facts.not_after - now;
    if left.is_negative() {
        tracing::error!(until = %facts.not_after.date(), "the certificate in `tls.cert_file` has expired: mail programs will refuse it");
    } else if left < RENEW_BEFORE {
        tracing::warn!(until = %facts.not_after.date(), "the certificate in `tls.cert_file` ends in {} days", left.whole_days());
    }
}

#[cfg(test)]
mod tests;
