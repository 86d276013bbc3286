//! Tokens at rest: ChaCha20-Poly1305 under a key that lies outside the store.
//!
//! A copy of the data directory (a backup, a disk sold) opens no mailbox. The account stands in the additional data, so that one
//! account's tokens cannot be put in another's place. The key is derived from a secret of any length; by default that is a file of
//! random octets beside the configuration, made when first needed.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::net::files::{make_private_dir, write_new};
use crate::secret::{Secret, SecretRef};

/// What the key is for: a secret used elsewhere, too, gives another key there.
const CONTEXT: &str = "mailweir 2026-11 sealed OAuth tokens";
/// The form of what is stored, should it ever change: the first octet.
const FORM: u8 = 1;
/// Random octets in a key file of ours.
const KEY_OCTETS: usize = 32;

/// The key of all accounts' tokens.
pub struct Seal(LessSafeKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// The key derived from the secret referred to. A file that is missing is made; nothing else is.
    ///
    /// # Errors
    /// In plain words, with what to do.
    pub async fn open(reference: &SecretRef) -> Result<Self, String> {
        if let SecretRef::File(path) = reference
            && !path.exists()
        {
            let path = path.clone();
            let made = tokio::task::spawn_blocking(move || make(&path)).await;
            made.map_err(|error| error.to_string())??;
        }
        let secret = reference.resolve().await;
        let secret = secret.map_err(|error| format!("the key of the stored tokens (`token_key`): {error}"))?;
        Self::of(&secret)
    }

    /// The key derived from this secret.
    fn of(secret: &Secret) -> Result<Self, String> {
        let key = Zeroizing::new(blake3::derive_key(CONTEXT, secret.expose()));
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| "the key cannot be used".to_owned())?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals what belongs to an account.
    pub(super) fn seal(&self, account: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        let mut nonce = [0; NONCE_LEN];
        // Random and 96 bits: some refreshes an hour for a hundred years stay far below where two might meet.
        SystemRandom::new().fill(&mut nonce).map_err(|_| "the system gives no random numbers".to_owned())?;
        let mut sealed = Zeroizing::new(plain.to_vec());
        let key = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(key, Aad::from(account.as_bytes()), &mut sealed);
        let tag = tag.map_err(|_| "the token cannot be sealed".to_owned())?;
        Ok([&[FORM], &nonce[..], &sealed[..], tag.as_ref()].concat())
    }

    /// What was sealed for the account; `None` for anything else, and under another key.
    pub(super) fn unseal(&self, account: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.strip_prefix(&[FORM])?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(account.as_bytes()), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

/// A file of random octets as text, readable by its owner only. One that has come into being meanwhile is left alone.
fn make(path: &Path) -> Result<(), String> {
    let mut octets = Zeroizing::new([0; KEY_OCTETS]);
    SystemRandom::new().fill(&mut *octets).map_err(|_| "the system gives no random numbers".to_owned())?;
    let text = Zeroizing::new(STANDARD.encode(octets.as_slice()) + "\n");
    let dir = path.parent().map_or(Ok(()), make_private_dir);
    match dir.and_then(|()| write_new(path, text.as_bytes())) {
        Ok(()) => Ok(()),
        // Another process was quicker: the key is its.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(format!(
            "{} cannot be made: {error}. It holds the key of the stored tokens; make the directory writable, or set `token_key`",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_for_one_account_under_one_key() {
        let seal = Seal::of(&Secret::new("key")).unwrap();
        let sealed = seal.seal("ann@x", b"token").unwrap();
        assert!(!sealed.windows(5).any(|w| w == b"token"));
        assert_ne!(sealed, seal.seal("ann@x", b"token").unwrap(), "never the same twice");
        assert_eq!(seal.unseal("ann@x", &sealed).unwrap().as_slice(), b"token");
        assert!(seal.unseal("bob@x", &sealed).is_none());
        assert!(Seal::of(&Secret::new("other")).unwrap().unseal("ann@x", &sealed).is_none());
        for cut in 0..sealed.len() {
            assert!(seal.unseal("ann@x", &sealed[..cut]).is_none(), "{cut}");
        }
    }

    #[tokio::test]
    async fn the_key_file_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let reference = SecretRef::File(dir.path().join("mailweir.key"));
        let sealed = Seal::open(&reference).await.unwrap().seal("a", b"t").unwrap();
        assert!(Seal::open(&reference).await.unwrap().unseal("a", &sealed).is_some());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join("mailweir.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let deeper = SecretRef::File(dir.path().join("new/key"));
        assert!(Seal::open(&deeper).await.is_ok(), "for somebody who has no configuration yet");
        // A file is where the directory would be.
        let nowhere = SecretRef::File(dir.path().join("mailweir.key/key"));
        let nowhere = Seal::open(&nowhere).await.unwrap_err();
        assert!(nowhere.contains("token_key"), "{nowhere}");
        let missing = Seal::open(&SecretRef::Env("MAILWEIR_TEST_UNSET".into())).await.unwrap_err();
        assert!(missing.contains("MAILWEIR_TEST_UNSET"), "{missing}");
    }
}
