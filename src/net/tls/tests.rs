use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::{OwnCertificate, TlsMode};
use crate::net::{DialError, Stream, Target, Trust, dial, upgrade};

const LONG: Duration = Duration::from_secs(30);

fn settings(dir: &Path) -> config::Tls {
    config::Tls { dir: dir.to_owned(), names: vec!["mail.home.arpa".into()], own: None }
}

fn loaded(settings: &config::Tls, now: OffsetDateTime) -> Result<Loaded, CertError> {
    load(settings, Leaf::Keep, &[], now)
}

fn identity(settings: &config::Tls) -> TlsIdentity {
    TlsIdentity::with(settings, loaded(settings, OffsetDateTime::now_utc()).unwrap()).unwrap()
}

/// A server that echoes one line to each of its connections, and its port.
async fn echo_server(identity: &TlsIdentity) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = identity.server_config();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let stream = Stream::from_tcp(tcp).unwrap();
            // A client that does not believe us ends the handshake; that is what some tests are about.
            let Ok(mut stream) = stream.start_tls_server(Arc::clone(&config)).await else { continue };
            let mut line = [0; 5];
            if stream.read_exact(&mut line).await.is_ok() {
                stream.write_all(&line).await.unwrap();
                stream.flush().await.unwrap();
            }
            // Dropped without close_notify, as many servers do.
        }
    });
    port
}

fn target(host: &str, port: u16, trust: Trust) -> Target {
    Target { host: host.into(), port, tls: TlsMode::Implicit, trust }
}

async fn echo(mut stream: Stream) {
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"hello");
}

#[tokio::test]
async fn clients_that_trust_the_exported_authority_connect_and_resume() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&settings(dir.path()));
    let port = echo_server(&identity).await;
    let trust = Trust::CaFile(dir.path().join("ca.pem"));
    for host in ["localhost", "127.0.0.1"] {
        let stream = dial(&target(host, port, trust.clone()), LONG).await.unwrap();
        assert!(stream.is_tls() && !stream.is_resumed());
        echo(stream).await;
        let again = dial(&target(host, port, trust.clone()), LONG).await.unwrap();
        assert!(again.is_resumed(), "{host}: the ticket of the first connection was not used");
        echo(again).await;
    }
    assert!(dial(&target("127.0.0.1", port, Trust::DangerNoVerify), LONG).await.is_ok());
}

#[tokio::test]
async fn clients_that_do_not_trust_it_are_told_why() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let identity = identity(&settings(dir.path()));
    loaded(&settings(other.path()), OffsetDateTime::now_utc()).unwrap();
    let port = echo_server(&identity).await;
    let e = dial(&target("localhost", port, Trust::CaFile(other.path().join("ca.pem"))), LONG).await.unwrap_err();
    assert!(matches!(e, DialError::Certificate { .. }) && e.is_permanent(), "{e:?}");
    assert!(
        e.to_string().contains("authority this computer does not know") && e.to_string().contains("ca_file"),
        "{e}"
    );
    // Another name for the same address: 127.0.0.2 is not among the names.
    let listener = TcpListener::bind("127.0.0.2:0").await;
    if let Ok(listener) = listener {
        let (config, port) = (identity.server_config(), listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let _ = Stream::from_tcp(tcp).unwrap().start_tls_server(config).await;
        });
        let e = dial(&target("127.0.0.2", port, Trust::CaFile(dir.path().join("ca.pem"))), LONG).await.unwrap_err();
        assert!(e.to_string().contains("is made for"), "{e}");
    }
}

#[tokio::test]
async fn a_plain_connection_in_memory_is_upgraded_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&settings(dir.path()));
    let (client, server) = Stream::pair();
    let target =
        Target { tls: TlsMode::StartTls, ..target("mail.home.arpa", 1, Trust::CaFile(dir.path().join("ca.pem"))) };
    let (client, server) = tokio::join!(upgrade(client, &target), server.start_tls_server(identity.server_config()));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.write_all(b"A1 NOOP\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"A1 NOOP\r\n");
    let twice = server.start_tls_server(identity.server_config()).await.unwrap_err();
    assert_eq!(twice.kind(), std::io::ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn large_transfers_in_random_pieces_arrive_whole() {
    use rand::{Rng, SeedableRng};
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut sent = vec![0_u8; 3 << 20];
    random.fill(sent.as_mut_slice());
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&settings(dir.path()));
    let (client, server) = Stream::pair();
    let target = target("localhost", 1, Trust::CaFile(dir.path().join("ca.pem")));
    let (client, server) = tokio::join!(upgrade(client, &target), server.start_tls_server(identity.server_config()));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    let data = sent.clone();
    let writer = tokio::spawn(async move {
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (one, two) = (random.random_range(1..40_000).min(rest.len()), random.random_range(0..40_000));
            let (first, tail) = rest.split_at(one);
            let second = &tail[..two.min(tail.len())];
            let pieces = [std::io::IoSlice::new(first), std::io::IoSlice::new(second)];
            let written = server.write_vectored(&pieces).await.unwrap();
            rest = &rest[written..];
        }
        server.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    writer.await.unwrap();
    assert!(got == sent, "{} of {} bytes, or others", got.len(), sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_greets_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&settings(dir.path()));
    let (_silent, server) = Stream::pair();
    let e = server.start_tls_server(identity.server_config()).await.unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_renewed_leaf_is_shown_without_a_new_listener() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    // As if made a year ago: due now.
    let old = loaded(&settings, OffsetDateTime::now_utc() - time::Duration::days(370)).unwrap();
    let identity = TlsIdentity::with(&settings, old).unwrap();
    let port = echo_server(&identity).await;
    let (fingerprint, end) = (identity.ca_fingerprint_sha256(), identity.facts().not_after);
    identity.refresh(&settings).unwrap();
    assert!(identity.facts().not_after > end + time::Duration::days(300));
    assert_eq!(identity.ca_fingerprint_sha256(), fingerprint);
    echo(dial(&target("localhost", port, Trust::CaFile(dir.path().join("ca.pem"))), LONG).await.unwrap()).await;
}

#[test]
fn the_fingerprint_is_written_as_programs_show_it() {
    // SHA-256 of nothing (FIPS 180-4's example value).
    let empty = fingerprint_sha256(b"");
    assert!(empty.starts_with("E3:B0:C4:42:98:FC") && empty.len() == 95, "{empty}");
}

/// The user's own pair, made by another authority into `dir`.
fn users_pair(dir: &Path, from: &Path) -> config::Tls {
    loaded(&settings(from), OffsetDateTime::now_utc()).unwrap();
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::copy(from.join("server.pem"), &cert_file).unwrap();
    std::fs::copy(from.join("server.key"), &key_file).unwrap();
    config::Tls { own: Some(OwnCertificate { cert_file, key_file }), ..settings(&dir.join("unused")) }
}

#[test]
fn the_users_own_certificate_is_taken_up_when_its_files_change() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second): (PathBuf, PathBuf) = (dir.path().join("a"), dir.path().join("b"));
    let settings = users_pair(dir.path(), &first);
    let identity = identity(&settings);
    assert_eq!((identity.ca_pem(), identity.ca_fingerprint_sha256()), (None, None));
    assert!(!dir.path().join("unused").exists(), "no authority is made where none is used");
    let shown = || identity.current.get().key.cert.clone();
    let before = shown();
    identity.refresh(&settings).unwrap();
    assert_eq!(shown(), before);
    users_pair(dir.path(), &second);
    // Whole seconds on some file systems: the change must not hide in the same one.
    let later = SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().write(true).open(dir.path().join("cert.pem")).unwrap().set_modified(later).unwrap();
    identity.refresh(&settings).unwrap();
    let renewed = shown();
    assert_ne!(renewed, before);
    // Half a change, or a broken file: the one in use stays.
    for (file, content, words) in [
        ("key.pem", std::fs::read(first.join("server.key")).unwrap(), "does not belong"),
        ("key.pem", b"nonsense".to_vec(), "no private key"),
        ("cert.pem", b"nonsense".to_vec(), "no certificate"),
    ] {
        std::fs::write(dir.path().join(file), content).unwrap();
        let e = identity.reload(&settings).unwrap_err();
        assert!(e.to_string().contains(words) && e.to_string().contains(".pem"), "{e}");
        assert_eq!(shown(), renewed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_keeper_looks_after_the_files_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let settings = users_pair(dir.path(), &dir.path().join("a"));
    let identity = Arc::new(identity(&settings));
    let before = identity.facts().not_after;
    users_pair(dir.path(), &dir.path().join("b"));
    let old = SystemTime::now() - Duration::from_secs(500);
    std::fs::File::options().write(true).open(dir.path().join("cert.pem")).unwrap().set_modified(old).unwrap();
    let cert = identity.current.get().key.cert.clone();
    let (stop, stopped) = watch::channel(false);
    let keeper = tokio::spawn(Arc::clone(&identity).keep_fresh(stopped));
    while identity.current.get().key.cert == cert {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(identity.facts().not_after >= before);
    stop.send(true).unwrap();
    keeper.await.unwrap();
}
