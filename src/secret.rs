//! A secret that never shows itself (Law 12), and references to where one is kept.
//!
//! The configuration holds [`SecretRef`]s, not passwords: a file, an environment variable, a command's output, the desktop's
//! keyring, a credential of systemd, or (for trying things out) the plain text. A reference is resolved when it is needed, so that a changed file or a rotated token is seen at the next
//! login without a restart.
//!
//! Errors name the reference, never a byte of what it holds. One trailing newline is cut, because every editor and
//! `echo` puts one there; nothing else is, because a password may begin or end with a blank.
//!
//! Law 8: a command has [`COMMAND_TIMEOUT`] and any secret [`MAX_BYTES`].

mod keyring;
mod memory;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

pub(crate) use memory::keep_private;

/// How long a secret's command may run: long enough for a password manager that asks its agent, short enough that a login
/// does not hang on one that asks a person nobody sees.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest secret; OAuth tokens reach some KiB, nothing sensible reaches this.
pub const MAX_BYTES: u64 = 64 * 1024;

/// A password or token. `Debug` prints nothing of it in any build; the memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is kept. Paths are absolute: the configuration resolves them against its own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// `{ file = "ann.pw" }`: the content of a file.
    File(PathBuf),
    /// `{ env = "ANN_PASSWORD" }`: an environment variable of the daemon.
    Env(String),
    /// `{ command = ["pass", "mail/ann"] }`: what a program writes to its standard output; run without a shell, in the
    /// configuration file's directory.
    Command { argv: Vec<String>, dir: PathBuf },
    /// `{ keyring = "ann" }`: in the desktop's keyring, under the service `mailweir` and this name.
    Keyring(String),
    /// `{ credential = "ann.pw" }`: what systemd hands the service (`LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential(String),
    /// `{ plain = "…" }`: in the configuration itself.
    Plain(Secret),
}

/// Why a reference gave no secret. The texts name the reference and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret file {} cannot be read: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("other users of this computer can read the secret file {}; run `chmod 600` on it", .0.display())]
    Exposed(PathBuf),
    #[error("the keyring does not give `{name}`: {reason}")]
    Keyring { name: String, reason: String },
    #[error("the credential {0} is there only for a service of systemd whose unit has LoadCredential={0}:FILE")]
    Credential(String),
    #[error(
        "the environment variable {0} is not set; set it where mailweir is started (in the service's unit, for instance)"
    )]
    Env(String),
    #[error("the secret command `{program}` failed: {reason}")]
    Command { program: String, reason: String },
    #[error("the secret from {0} is longer than 64 KiB; that cannot be a password")]
    TooLong(String),
    #[error("the secret from {0} is empty")]
    Empty(String),
}

impl SecretRef {
    /// Fetches the secret. Reads files off the async threads; a command is ended when its time is over or the caller gives up.
    pub async fn resolve(&self) -> Result<Secret, SecretError> {
        let bytes = match self {
            Self::Plain(secret) => return Ok(secret.clone()),
            Self::Env(name) => env_bytes(name)?,
            Self::File(path) => file_bytes(path, Guard::Checked).await?,
            Self::Keyring(name) => keyring::lookup(name).await?,
            Self::Credential(name) => credential_bytes(name).await?,
            Self::Command { argv, dir } => command_bytes(argv, dir).await?,
        };
        let secret = cut_newline(bytes);
        if secret.0.is_empty() {
            return Err(SecretError::Empty(self.to_string()));
        }
        Ok(secret)
    }
}

/// Names the reference, never the secret.
impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            // Arguments may hold something private (a vault's item, a path); the program's name is enough to find it.
            Self::Command { argv, .. } => write!(f, "the command `{}`", program(argv)),
            Self::Keyring(name) => write!(f, "the keyring's {name}"),
            Self::Credential(name) => write!(f, "the credential {name}"),
            Self::Plain(_) => f.write_str("the configuration"),
        }
    }
}

fn env_bytes(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let value = std::env::var_os(name).ok_or_else(|| SecretError::Env(name.to_owned()))?;
    Ok(Zeroizing::new(value.into_encoded_bytes()))
}

/// What systemd hands over stands in a directory only the service can enter; the modes of the files in it are systemd's business.
async fn credential_bytes(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| SecretError::Credential(name.to_owned()))?;
    match file_bytes(&Path::new(&dir).join(name), Guard::Systems).await {
        Err(SecretError::File { .. }) => Err(SecretError::Credential(name.to_owned())),
        other => other,
    }
}

/// Who sees to it that nobody else reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Checked,
    Systems,
}

async fn file_bytes(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let fault = |reason: String| SecretError::File { path: path.to_owned(), reason };
    let file = tokio::fs::File::open(path).await.map_err(|e| fault(e.to_string()))?;
    let metadata = file.metadata().await.map_err(|e| fault(e.to_string()))?;
    if metadata.is_dir() {
        return Err(fault("it is a directory".into()));
    }
    if guard == Guard::Checked {
        match readers(&metadata) {
            Readers::Owner => {}
            Readers::Group => {
                tracing::warn!(file = %path.display(), "the group of this secret file can read it; `chmod 600` unless that is meant");
            }
            Readers::Everybody => return Err(SecretError::Exposed(path.to_owned())),
        }
    }
    read_bounded(file)
        .await
        .map_err(|e| fault(e.to_string()))?
        .ok_or_else(|| SecretError::TooLong(path.display().to_string()))
}

async fn command_bytes(argv: &[String], dir: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let fault = |reason: String| SecretError::Command { program: program(argv).to_owned(), reason };
    let (name, arguments) = argv.split_first().ok_or_else(|| fault("no program is named".into()))?;
    let mut child = tokio::process::Command::new(name)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Its own words go to our log's place; they are the program's to keep clean of secrets.
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| fault(format!("it cannot be started: {e}")))?;
    let output = child.stdout.take().ok_or_else(|| fault("its output cannot be read".into()))?;
    let run = async {
        let read = read_bounded(output).await.map_err(|e| fault(e.to_string()))?;
        // Over the limit: not waited for, as it may still be blocked writing; dropping `child` ends it.
        let Some(bytes) = read else { return Err(SecretError::TooLong(format!("the command `{}`", program(argv)))) };
        let status = child.wait().await.map_err(|e| fault(e.to_string()))?;
        if status.success() { Ok(bytes) } else { Err(fault(format!("it ended with {status}"))) }
    };
    tokio::time::timeout(COMMAND_TIMEOUT, run)
        .await
        .unwrap_or_else(|_| Err(fault(format!("it did not end within {} s", COMMAND_TIMEOUT.as_secs()))))
}

/// All bytes, or `None` when there are more than [`MAX_BYTES`].
async fn read_bounded(reader: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Reserved at once: a growing vector would leave unwiped copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).await?;
    Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
}

fn cut_newline(mut bytes: Zeroizing<Vec<u8>>) -> Secret {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Secret::new(bytes.as_slice())
}

fn program(argv: &[String]) -> &str {
    argv.first().map_or("", String::as_str)
}

/// Whom a file's mode lets read (or change) it.
enum Readers {
    Owner,
    Group,
    Everybody,
}

#[cfg(unix)]
fn readers(metadata: &std::fs::Metadata) -> Readers {
    use std::os::unix::fs::PermissionsExt;
    match metadata.permissions().mode() {
        mode if mode & 0o007 != 0 => Readers::Everybody,
        mode if mode & 0o070 != 0 => Readers::Group,
        _ => Readers::Owner,
    }
}

/// Elsewhere the access list inherited from the user's own directory keeps others out.
#[cfg(not(unix))]
fn readers(_metadata: &std::fs::Metadata) -> Readers {
    Readers::Owner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", SecretRef::Plain(secret.clone())), "[secret] Plain([secret])");
    }

    #[tokio::test]
    async fn files_lose_one_newline_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        for (content, want) in
            [("p w ", "p w "), ("pw\n", "pw"), ("pw\r\n", "pw"), ("pw\n\n", "pw\n"), ("pw\r", "pw\r")]
        {
            write_private(&path, content.as_bytes());
            assert_eq!(SecretRef::File(path.clone()).resolve().await.unwrap().expose(), want.as_bytes(), "{content:?}");
        }
        write_private(&path, b"\n");
        assert!(matches!(SecretRef::File(path.clone()).resolve().await, Err(SecretError::Empty(_))));
        write_private(&path, &vec![b'x'; MAX_BYTES as usize + 1]);
        assert!(matches!(SecretRef::File(path).resolve().await, Err(SecretError::TooLong(_))));
        let missing = SecretRef::File(dir.path().join("none")).resolve().await.unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
        assert!(matches!(SecretRef::File(dir.path().into()).resolve().await, Err(SecretError::File { .. })));
    }

    fn write_private(path: &Path, content: &[u8]) {
        std::fs::write(path, content).unwrap();
        set_mode(path, 0o600);
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn set_mode(_: &Path, _: u32) {}

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        write_private(&path, b"hunter2");
        for (mode, refused) in
            [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o602, true), (0o604, true)]
        {
            set_mode(&path, mode);
            let got = SecretRef::File(path.clone()).resolve().await;
            assert_eq!(matches!(got, Err(SecretError::Exposed(_))), refused, "{mode:o}");
            if let Err(error) = got {
                assert!(error.to_string().contains("chmod 600") && !error.to_string().contains("hunter2"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_credential_is_of_a_service_only() {
        // The tests are no service of systemd's.
        let error = SecretRef::Credential("ann.pw".into()).resolve().await.unwrap_err();
        assert!(error.to_string().contains("LoadCredential=ann.pw:"), "{error}");
    }

    #[tokio::test]
    async fn the_environment_answers_or_is_named() {
        // PATH is set wherever tests run.
        assert!(SecretRef::Env("PATH".into()).resolve().await.is_ok());
        let e = SecretRef::Env("MAILWEIR_TEST_UNSET".into()).resolve().await.unwrap_err();
        assert!(e.to_string().contains("MAILWEIR_TEST_UNSET"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn commands_are_bounded_in_output_and_must_succeed() {
        let command = |argv: &[&str]| SecretRef::Command {
            argv: argv.iter().map(ToString::to_string).collect(),
            dir: std::env::temp_dir(),
        };
        assert_eq!(command(&["printf", "pw\\n"]).resolve().await.unwrap().expose(), b"pw");
        let failed = command(&["sh", "-c", "echo hunter2; exit 3"]).resolve().await.unwrap_err();
        assert!(failed.to_string().contains("exit status: 3") && !failed.to_string().contains("hunter2"), "{failed}");
        assert!(matches!(command(&["yes"]).resolve().await, Err(SecretError::TooLong(_))));
        assert!(matches!(command(&["/nonexistent/x"]).resolve().await, Err(SecretError::Command { .. })));
        assert!(matches!(command(&[]).resolve().await, Err(SecretError::Command { .. })));
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_given_up() {
        let hung = SecretRef::Command { argv: vec!["sleep".into(), "600".into()], dir: std::env::temp_dir() };
        let e = hung.resolve().await.unwrap_err();
        assert!(e.to_string().contains("did not end within 30 s"), "{e}");
    }
}
