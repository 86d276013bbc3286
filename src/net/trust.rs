//! Whom we believe when we are the TLS client: the platform's roots, one CA file, or (said loudly elsewhere) anybody.
//!
//! A client configuration is built once per kind of trust and shared: it holds the session tickets, so a second connection
//! to the same provider resumes instead of paying a full handshake. Roots are read from disk off the async threads.
//! [`forget`] drops what is remembered, so that a reload sees changed CA files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

/// Whose certificates count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The roots the operating system trusts.
    Platform,
    /// Only the certificates in this PEM file: a provider with a CA of its own.
    CaFile(PathBuf),
    /// Any certificate at all. Whoever sits on the way can read everything; only `verify = false` in the configuration sets this, and
    /// the daemon says so at each start.
    DangerNoVerify,
}

/// Why a trust could not be set up. Both say what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrustError {
    /// `ca_file` is missing, unreadable, or holds no certificate.
    #[error("the CA file {} cannot be used: {reason}. Give `ca_file` a PEM file with at least one certificate.", path.display())]
    CaFile { path: PathBuf, reason: String },
    /// The system has no root certificates to read.
    #[error(
        "no trusted root certificates were found on this system ({0}). Install them (on Debian: `apt install ca-certificates`) or set `ca_file`."
    )]
    NoPlatformRoots(String),
}

/// Client configurations by trust. Bounded by the number of accounts: each has one trust.
static CONFIGS: LazyLock<Mutex<HashMap<Trust, Arc<ClientConfig>>>> = LazyLock::new(Mutex::default);

/// The shared client configuration of `trust`, made at first use.
pub(crate) async fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TrustError> {
    if let Some(config) = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner).get(trust) {
        return Ok(Arc::clone(config));
    }
    let wanted = trust.clone();
    let built = match tokio::task::spawn_blocking(move || build(&wanted)).await {
        Ok(built) => Arc::new(built?),
        // Only on shutdown of the runtime, or a panic inside the platform's certificate reader.
        Err(e) => return Err(TrustError::NoPlatformRoots(e.to_string())),
    };
    // Two tasks may have built one each: the first kept is the one shared.
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Arc::clone(configs.entry(trust.clone()).or_insert(built)))
}

/// Forgets all client configurations (and with them the session tickets): the next connection reads its roots again.
pub fn forget() {
    CONFIGS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn build(trust: &Trust) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(|e| TrustError::NoPlatformRoots(e.to_string()))?;
    let config = match trust {
        Trust::Platform => config.with_root_certificates(platform_roots()?),
        Trust::CaFile(path) => config.with_root_certificates(file_roots(path)?),
        Trust::DangerNoVerify => {
            config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
    };
    Ok(config.with_no_client_auth())
}

fn platform_roots() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry the odd root that does not parse; the others are what counts.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TrustError::NoPlatformRoots(if reasons.is_empty() {
            "none installed".into()
        } else {
            reasons.join("; ")
        }));
    }
    Ok(roots)
}

fn file_roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let fault = |reason: String| TrustError::CaFile { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| fault(format!("not valid PEM ({e})")))?;
        roots.add(certificate).map_err(|e| fault(format!("it holds a certificate that cannot be read ({e})")))?;
    }
    if roots.is_empty() {
        return Err(fault("it holds no certificate".into()));
    }
    Ok(roots)
}

/// Accepts any chain, but still checks that the peer holds the key of the certificate it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
