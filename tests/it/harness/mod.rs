//! What the integration tests and the end-to-end bench stand on: real servers started privately, the daemon as a
//! child process, a mail client that follows the protocol byte by byte, a relay that can be slow or break, and a
//! generator of mail.
//!
//! Nothing here uses the crate's own wire code: a fault in it must not cancel itself out. Everything is blocking and
//! thread based, so that a transcript reads top to bottom. Waits are for an event with a deadline, never for a time.
//! A panic is the way a helper fails: it ends the test with the transcript in hand.

pub mod answer;
pub mod browser;
pub mod ca;
pub mod chromium;
pub mod client;
pub mod cyrus;
pub mod daemon;
pub mod dovecot;
pub mod exim;
pub mod fleet;
pub mod inside;
pub mod mail;
pub mod oauth;
pub mod pop;
pub mod process;
pub mod relay;
pub mod search;
pub mod simulated;
pub mod smtp;
pub mod trap;
pub mod world;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The user name at the upstream servers.
pub const UPSTREAM_USER: &str = "ann";
/// The password at the upstream servers; not the local one, so that a mix-up shows.
pub const UPSTREAM_PASSWORD: &str = "upstream-secret";
/// The address a mail program gives to the daemon.
pub const ADDRESS: &str = "ann@example.org";
/// The password a mail program gives to the daemon.
pub const LOCAL_PASSWORD: &str = "local-secret";

/// Anything that takes longer than this has failed: ten times what the slowest step takes on a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of the test's own that the mail servers' user (65534) can enter; removed at the end.
pub fn scratch(purpose: &str) -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("mailweir-{purpose}-")).tempdir().expect("temporary directory");
    open_to_all(dir.path());
    dir
}

/// The same, but it is the server started in it that removes it: see [`process::Server::start`].
pub fn server_scratch(purpose: &str) -> tempfile::TempDir {
    let mut dir = scratch(purpose);
    dir.disable_cleanup(true);
    dir
}

/// Mode 0755, whatever the umask says.
pub fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Gives a tree to the user the mail servers run as.
pub fn give_to_nobody(root: &Path) {
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        std::os::unix::fs::lchown(&path, Some(65534), Some(65534)).expect("chown needs root, as in CI");
        if path.is_dir() && !path.is_symlink() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
}

/// A port that was free a moment ago, and that nobody else was given lately. Taken from below the kernel's ephemeral range (32768 up), so
/// that no outgoing connection of a test running beside us is given it in between; and from parts that belong to this process by a
/// lock, so that a test running beside us is not given it either before our server listens there.
pub fn free_port() -> u16 {
    static OWN: Mutex<OwnPorts> = Mutex::new(OwnPorts { parts: Vec::new(), given: 0 });
    OWN.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// The parts of the range this process holds, each with the locked file that says so.
struct OwnPorts {
    parts: Vec<(u16, std::fs::File)>,
    given: usize,
}

const FIRST_PORT: u16 = 20_000;
const PARTS: u32 = 187;
const PART: u16 = 64;

impl OwnPorts {
    fn next(&mut self) -> u16 {
        loop {
            // Each port of ours once in turn; when a whole round finds none, one more part.
            for _ in 0..self.parts.len() * usize::from(PART) {
                let at = self.given % (self.parts.len() * usize::from(PART));
                self.given += 1;
                let port = self.parts[at / usize::from(PART)].0 + (at % usize::from(PART)) as u16;
                if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                    return port;
                }
            }
            self.claim();
        }
    }

    /// Takes a part nobody holds. The lock ends with the process, however it ends.
    fn claim(&mut self) {
        let dir = std::env::temp_dir().join("mailweir-test-ports");
        std::fs::create_dir_all(&dir).expect("a directory for the locks of ports");
        let start = std::process::id();
        for part in (0..PARTS).map(|n| (start + n) % PARTS) {
            let file = std::fs::File::create(dir.join(part.to_string())).expect("the lock of a part of the ports");
            if fs4::fs_std::FileExt::try_lock_exclusive(&file).is_ok_and(|locked| locked) {
                self.parts.push((FIRST_PORT + part as u16 * PART, file));
                return;
            }
        }
        panic!("no ports left: {} parts are held here, all others by other tests", self.parts.len());
    }
}

/// Waits until `ready` says so; panics with `what` when `PATIENCE` is over. The pause between two looks is not a wait
/// for things to happen but keeps the look itself from taking the processor they need.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "gave up after {PATIENCE:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether something accepts connections there.
pub fn accepts(addr: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok()
}

/// Where `tests/run` unpacks servers that cannot be installed beside each other.
pub fn servers_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("MAILWEIR_TEST_SERVERS") {
        return dir.into();
    }
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("the target directory").join("servers")
}

/// Whether this run proves the tests against the upstream servers alone: see the head of `main.rs`.
pub fn straight_run() -> bool {
    std::env::var_os("MAILWEIR_TEST_STRAIGHT").is_some()
}

/// The seed of a random run: `MAILWEIR_TEST_SEED`, else `default`. Printed, so that a failure can be run again.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("MAILWEIR_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    println!("MAILWEIR_TEST_SEED={seed}");
    seed
}

/// How many steps a random run has: `MAILWEIR_TEST_STEPS`, for longer ones by hand, else `default`.
pub fn steps(default: usize) -> usize {
    std::env::var("MAILWEIR_TEST_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(default)
}
