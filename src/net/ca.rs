//! The local certificate authority and the leaf it signs, as files.
//!
//! `tls.dir` holds `ca.pem ca.key server.pem server.key`. The authority lasts ten years and is never replaced by us: mail programs
//! were told to trust it. It may sign for local names only, and those it was made for (`scope`). The leaf is cheap: it is signed
//! anew, with the key it has, when it nears its end or lacks a name.
//!
//! A key is written before its certificate, and a certificate replaced by one rename, so a crash at any point leaves files
//! that fit together. A file that does not parse, or a pair that does not match, is told and left alone: it may be the only copy.
//!
//! Numbers: Apple's systems take leaves of at most 825 days from a private authority and 398 from a public one; we stay below both.
//! P-256 keys are what every TLS 1.2 client knows.

mod scope;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs4::fs_std::FileExt;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;

use self::scope::Scope;
use super::files::{Access, make_private, make_private_dir, write_atomic};

/// How long the authority lasts: longer than the computer.
const CA_LIFE: Duration = Duration::days(3652);

/// How long a leaf lasts, its back-dating included.
const LEAF_LIFE: Duration = Duration::days(397);

/// A certificate begins this long before it is made, for clients whose clock is behind.
const BACKDATED: Duration = Duration::days(1);

/// A leaf is made anew this long before its end: a month in which somebody can notice that it fails.
pub(super) const RENEW_BEFORE: Duration = Duration::days(30);

/// More names than this are not kept in a leaf; old addresses of a travelling laptop fall out first.
const MAX_NAMES: usize = 50;

/// What every leaf is made for.
const ALWAYS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Something is wrong with a certificate or key file. The text names the file and the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    #[error("{}: {reason}. {mend}", file.display())]
    File { file: PathBuf, reason: String, mend: String },
    /// The TLS library refused to make something; not the user's fault.
    #[error("a certificate could not be made: {0}")]
    Making(String),
}

/// A certificate chain and its private key, in PEM, with where they came from.
pub(super) struct Material {
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    pub(super) cert_pem: Vec<u8>,
    pub(super) key_pem: Vec<u8>,
    /// The authority's certificate; none with a certificate of the user's own.
    pub(super) ca_pem: Option<String>,
}

/// The names a leaf is made for, besides those of every computer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// A person wants these.
    pub(super) configured: &'a [String],
    /// These are nice to have.
    pub(super) found: &'a [String],
}

impl Names<'_> {
    fn all(&self) -> Vec<String> {
        wanted_names(self.configured.iter().chain(self.found))
    }
}

/// What is to be done with a leaf that is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Keep,
    /// Make it anew, and only for the names wanted now.
    Replace,
}

/// The files of `tls.dir`.
pub(super) struct Authority<'a> {
    dir: &'a Path,
    now: OffsetDateTime,
}

impl<'a> Authority<'a> {
    pub(super) fn new(dir: &'a Path, now: OffsetDateTime) -> Self {
        Self { dir, now }
    }

    /// Makes sure that authority and leaf exist, fit together, cover `names` and last, and gives the leaf.
    pub(super) fn ensure(&self, names: Names<'_>, leaf: Leaf) -> Result<Material, CertError> {
        make_private_dir(self.dir).map_err(|e| {
            self.fault("", format!("the directory cannot be made: {e}"), "Check `tls.dir` and its rights.")
        })?;
        let _lock = self.lock()?;
        let ca = self.ensure_ca(names)?;
        let (cert_pem, key_pem) = self.ensure_leaf(&ca, names, leaf)?;
        Ok(Material {
            cert_file: self.file("server.pem"),
            key_file: self.file("server.key"),
            cert_pem,
            key_pem,
            ca_pem: Some(ca.pem),
        })
    }

    /// Two starts at once, or a start and `certs renew`, must not make two authorities. Released when dropped.
    fn lock(&self) -> Result<std::fs::File, CertError> {
        let path = self.file(".lock");
        let open = || {
            let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            FileExt::lock_exclusive(&file)?;
            Ok(file)
        };
        open().map_err(|e: std::io::Error| {
            self.fault(".lock", format!("cannot be locked: {e}"), "Check the rights of the directory.")
        })
    }

    fn ensure_ca(&self, names: Names<'_>) -> Result<Ca, CertError> {
        let key = self.read("ca.key")?;
        let pem = self.read("ca.pem")?;
        let (key, pem) = match (key, pem) {
            (None, None) => {
                let key = self.new_key("ca.key")?;
                let pem = self.new_ca(&key, names)?;
                tracing::info!(file = %self.file("ca.pem").display(), "made a local certificate authority; `mailweir certs export` gives it to mail programs");
                (Some(key), pem)
            }
            // The last step of a first start that was cut short; or the public half was deleted, and the same key makes one
            // that clients who trust the old one accept.
            (Some(key), None) => {
                let key = self.parse_key("ca.key", &key)?;
                let pem = self.new_ca(&key, names)?;
                (Some(key), pem)
            }
            (Some(key), Some(pem)) => (Some(self.parse_key("ca.key", &key)?), pem),
            // Without its key the authority can still vouch for the leaf it signed.
            (None, Some(pem)) => (None, pem),
        };
        let der = self.parse_cert("ca.pem", &pem)?;
        if let Some(key) = &key {
            self.check_pair("ca.pem", "ca.key", &der, key)?;
        }
        if Facts::of(&der).is_none_or(|facts| facts.not_after <= self.now) {
            return Err(self.fault("ca.pem", "the authority has expired".into(), CA_MEND));
        }
        let pem = String::from_utf8(pem).map_err(|_| self.fault("ca.pem", "it is not text".into(), CA_MEND))?;
        Ok(Ca { key, der, pem })
    }

    fn ensure_leaf(&self, ca: &Ca, names: Names<'_>, leaf: Leaf) -> Result<(Vec<u8>, Vec<u8>), CertError> {
        let scope = Scope::of(&ca.der);
        let wanted = self.within(&scope, names)?;
        let key = match self.read("server.key")? {
            Some(pem) => self.parse_key("server.key", &pem)?,
            None => {
                // A leaf of another key must not be found beside the new one after a crash.
                self.remove("server.pem")?;
                self.new_key("server.key")?
            }
        };
        let mut names = wanted.clone();
        if let Some(pem) = self.read("server.pem")? {
            let der = self.parse_cert("server.pem", &pem)?;
            self.check_pair("server.pem", "server.key", &der, &key)?;
            let facts =
                Facts::of(&der).ok_or_else(|| self.fault("server.pem", "it cannot be read".into(), LEAF_MEND))?;
            let lasts = facts.not_after - self.now > RENEW_BEFORE && facts.not_before <= self.now;
            let covers = wanted.iter().all(|n| facts.names.contains(n));
            if lasts && covers && leaf == Leaf::Keep && ca.vouches_for(&der, self.now) {
                return Ok((pem, key.serialize_pem().into_bytes()));
            }
            if leaf == Leaf::Keep {
                // A laptop that goes between two networks needs one leaf for both, not a new one each day.
                names.extend(facts.names.into_iter().filter(|n| !wanted.contains(n) && scope.covers(n)));
                names.truncate(MAX_NAMES);
            }
        }
        let pem = self.new_leaf(ca, &key, &names)?;
        tracing::info!(names = names.join(", "), "made a server certificate, valid {} days", LEAF_LIFE.whole_days());
        Ok((pem, key.serialize_pem().into_bytes()))
    }

    /// The names wanted that the authority may sign for: one that it may not would spoil the whole leaf.
    fn within(&self, scope: &Scope, names: Names<'_>) -> Result<Vec<String>, CertError> {
        let outside = |name: &&String| !scope.covers(&canonical(name));
        if let Some(name) = names.configured.iter().find(outside) {
            return Err(self.fault(
                "ca.pem",
                format!("the authority was made for local names and may not sign for `{name}` of tls.names"),
                "Take that name out; or delete ca.pem and ca.key to have an authority made that may, which every mail program must be told to trust.",
            ));
        }
        let left_out: Vec<_> = names.found.iter().filter(outside).map(String::as_str).collect();
        if !left_out.is_empty() {
            tracing::info!(
                names = left_out.join(", "),
                "this computer is called so too, but the authority may not sign for it"
            );
        }
        Ok(names.all().into_iter().filter(|name| scope.covers(name)).collect())
    }

    fn new_key(&self, name: &str) -> Result<KeyPair, CertError> {
        let key = KeyPair::generate().map_err(making)?;
        self.write(name, key.serialize_pem().as_bytes(), Access::OwnerOnly)?;
        Ok(key)
    }

    fn new_ca(&self, key: &KeyPair, names: Names<'_>) -> Result<Vec<u8>, CertError> {
        let mut params = CertificateParams::default();
        // The key's own mark in the name lets a client tell two authorities of ours apart.
        let mark: String = params.key_identifier(key).iter().take(4).map(|b| format!("{b:02x}")).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("mailweir local CA {mark}"));
        params.distinguished_name.push(DnType::OrganizationName, "mailweir");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Who trusts it does so for servers only, of these names only: not for signed mail, nor (on Windows) for programs.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(scope::constraints(&names.all()));
        self.set_life(&mut params, CA_LIFE);
        let pem = params.self_signed(key).map_err(making)?.pem().into_bytes();
        self.write("ca.pem", &pem, Access::Everybody)?;
        Ok(pem)
    }

    fn new_leaf(&self, ca: &Ca, key: &KeyPair, names: &[String]) -> Result<Vec<u8>, CertError> {
        let ca_key = ca.key.as_ref().ok_or_else(|| {
            self.fault(
                "ca.key",
                "it is missing, and a new server certificate has to be signed".into(),
                "Put it back from a backup; or delete ca.pem to have a new authority made, which every mail program must be told to trust.",
            )
        })?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(making)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "mailweir");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        self.set_life(&mut params, LEAF_LIFE);
        let issuer = Issuer::from_ca_cert_der(&ca.der, ca_key).map_err(making)?;
        let pem = params.signed_by(key, &issuer).map_err(making)?.pem().into_bytes();
        self.write("server.pem", &pem, Access::Everybody)?;
        Ok(pem)
    }

    fn set_life(&self, params: &mut CertificateParams, life: Duration) {
        params.not_before = self.now - BACKDATED;
        params.not_after = params.not_before + life;
        // Random, as the default is drawn from the key, which stays: some clients refuse an issuer that repeats a serial.
        let mut serial: [u8; 16] = rand::random();
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
    }

    fn file(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.dir.to_owned() } else { self.dir.join(name) }
    }

    fn fault(&self, name: &str, reason: String, mend: &str) -> CertError {
        CertError::File { file: self.file(name), reason, mend: mend.to_owned() }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CertError> {
        let path = self.file(name);
        let unreadable = |e: std::io::Error| self.fault(name, format!("it cannot be read: {e}"), "Check its rights.");
        match std::fs::read(&path) {
            Ok(content) => {
                if name.ends_with(".key") && make_private(&path).map_err(unreadable)? {
                    tracing::warn!(file = %path.display(), "other users of this computer could read this private key; its mode is 0600 now. If somebody may have copied it, delete it and start again");
                }
                Ok(Some(content))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unreadable(e)),
        }
    }

    fn write(&self, name: &str, content: &[u8], access: Access) -> Result<(), CertError> {
        write_atomic(&self.file(name), content, access).map_err(|e| {
            self.fault(name, format!("it cannot be written: {e}"), "Check the directory's rights and the free space.")
        })
    }

    fn remove(&self, name: &str) -> Result<(), CertError> {
        match std::fs::remove_file(self.file(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(self.fault(name, format!("it cannot be removed: {e}"), "Check the directory's rights."))
            }
            _ => Ok(()),
        }
    }

    fn parse_key(&self, name: &str, pem: &[u8]) -> Result<KeyPair, CertError> {
        let parsed = std::str::from_utf8(pem).ok().and_then(|text| KeyPair::from_pem(text).ok());
        parsed
            .ok_or_else(|| self.fault(name, "it is damaged: no private key can be read from it".into(), mend_of(name)))
    }

    fn parse_cert(&self, name: &str, pem: &[u8]) -> Result<CertificateDer<'static>, CertError> {
        let der = CertificateDer::from_pem_slice(pem).ok().filter(|der| Facts::of(der).is_some());
        der.ok_or_else(|| self.fault(name, "it is damaged: no certificate can be read from it".into(), mend_of(name)))
    }

    fn check_pair(&self, cert: &str, key_name: &str, der: &CertificateDer<'_>, key: &KeyPair) -> Result<(), CertError> {
        let matches = x509_parser::parse_x509_certificate(der)
            .is_ok_and(|(_, x)| x.tbs_certificate.subject_pki.raw == key.subject_public_key_info());
        if matches {
            return Ok(());
        }
        Err(self.fault(cert, format!("it does not belong to the key in {key_name}"), mend_of(cert)))
    }
}

const CA_MEND: &str = "Put it back from a backup; or delete ca.pem and ca.key to have a new authority made, which every mail program must be told to trust.";
const LEAF_MEND: &str = "Delete server.pem and server.key to have new ones made; mail programs need not be told.";

fn mend_of(name: &str) -> &'static str {
    if name.starts_with("ca.") { CA_MEND } else { LEAF_MEND }
}

fn making(e: rcgen::Error) -> CertError {
    CertError::Making(e.to_string())
}

/// The authority as read.
struct Ca {
    key: Option<KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

impl Ca {
    /// Whether a client that trusts this authority would take the leaf now.
    fn vouches_for(&self, leaf: &CertificateDer<'_>, now: OffsetDateTime) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(self.der.clone()).is_err() {
            return false;
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
        let Ok(verifier) = builder.build() else { return false };
        let Ok(name) = ServerName::try_from(ALWAYS[0]) else { return false };
        let now =
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unix_timestamp().max(0).unsigned_abs()));
        verifier.verify_server_cert(leaf, &[], &name, &[], now).is_ok()
    }
}

/// Names in the order they go into a leaf, each once.
fn wanted_names<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let all = ALWAYS.iter().map(ToString::to_string).chain(names.map(|n| canonical(n)));
    all.filter(|n| seen.insert(n.clone())).take(MAX_NAMES).collect()
}

/// One spelling for comparing: lower case, addresses as the system writes them.
fn canonical(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |ip| ip.to_string())
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub subject: String,
    pub issuer: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// DNS names and addresses it is made for.
    pub names: Vec<String>,
}

impl Facts {
    /// `None` when the bytes are no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
        let alternatives = cert.subject_alternative_name().ok()?;
        let names = alternatives.iter().flat_map(|san| &san.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
            _ => None,
        });
        Some(Self {
            names: names.collect(),
            subject: cert.subject().to_string(),
            issuer: cert.issuer().to_string(),
            not_before: cert.validity().not_before.to_datetime(),
            not_after: cert.validity().not_after.to_datetime(),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
