//! Devices that are to trust the daemon and mail programs that set themselves up: the files, the answers held against their schemas, the
//! trust page in a browser, and what the local network gets to see.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::answer::Status;
use crate::harness::client::Client;
use crate::harness::daemon::{Account, Daemon, PROGRAM, Setup};
use crate::harness::process::Server;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, PATIENCE, free_port, scratch, servers_dir, straight_run};

/// A daemon that serves everything; its provider is away, which changes nothing here.
fn everything() -> Daemon {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (submission, submissions) = (free_port(), free_port());
    let listen_more =
        format!("submission = [\"127.0.0.1:{submission}\"]\nsubmissions = [\"127.0.0.1:{submissions}\"]\n");
    Daemon::start(Setup { listen_more, ..Setup::new(Account::at(nobody)) })
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let out = Command::new(program).args(arguments).output();
    out.unwrap_or_else(|error| panic!("{program} (tests/run installs it): {error}"))
}

/// What a program says that must succeed.
fn told(program: &str, arguments: &[&str]) -> String {
    let out = run(program, arguments);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {arguments:?}: {}\n{errors}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}

/// Status, headers and body of what curl fetches.
fn fetch(url: &str, more: &[&str]) -> (u16, String, Vec<u8>) {
    let out = run("curl", &[&["-sS", "-i", "--max-time", "20", url], more].concat());
    assert!(out.status.success(), "{url}: {}", String::from_utf8_lossy(&out.stderr));
    let at = out.stdout.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(out.stdout[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head, out.stdout[at + 4..].to_vec())
}

fn schema(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schemas").join(name);
    file.to_str().unwrap().to_owned()
}

/// Whether xmllint finds the document valid, and what it says.
fn validate(kind: &str, name: &str, document: &str) -> (bool, String) {
    let dir = scratch("xml");
    let file = dir.path().join("answer.xml");
    std::fs::write(&file, document).unwrap();
    let out = run("xmllint", &["--noout", "--nonet", kind, &schema(name), file.to_str().unwrap()]);
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Valid as it is; and not with any of the changes, or the schema would prove nothing.
fn assert_valid(kind: &str, name: &str, document: &str, changes: &[(&str, &str)]) {
    let (valid, said) = validate(kind, name, document);
    assert!(valid, "{said}\n{document}");
    for (from, to) in changes {
        assert!(document.contains(from), "{from} is not in {document}");
        let (valid, said) = validate(kind, name, &document.replacen(from, to, 1));
        assert!(!valid, "{from} as {to} is taken: {said}");
    }
}

#[test]
fn the_answers_for_mail_programs_are_valid() {
    if straight_run() {
        return;
    }
    let daemon = everything();
    let (status, document) =
        daemon.http_get("/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=ann%40example.org");
    assert_eq!(status, 200, "{document}");
    let changes = [
        ("SSL", "TLS"),
        ("<hostname>localhost</hostname>", ""),
        ("imap", "imaps"),
        ("version=\"1.1\"", ""),
        ("</port>", "0</port>"),
    ];
    assert_valid("--relaxng", "autoconfig.rng", &document, &changes);
    for port in [daemon.imap, daemon.imaps, daemon.pop3, daemon.pop3s].map(|at| at.port()) {
        assert!(document.contains(&format!("<port>{port}</port>")), "{port} is not in {document}");
    }

    let url = format!("http://{}/AutoDiscover/autodiscover.XML", daemon.http);
    let ask = |address: &str, schema: &str| {
        let request = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\"><Request><EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/{schema}</AcceptableResponseSchema></Request></Autodiscover>"
        );
        let (status, head, body) =
            fetch(&url, &["-H", "Host: localhost", "-H", "Content-Type: text/xml", "--data", &request]);
        assert!(status == 200 && head.to_lowercase().contains("content-type: text/xml"), "{head}");
        String::from_utf8(body).unwrap()
    };
    let outlook = "outlook/responseschema/2006a";
    let settings = ask(ADDRESS, outlook);
    let changes = [
        ("<Port>", "<Port>7"),
        ("<Type>POP3</Type>", "<Type>IMAP</Type>"),
        ("<SSL>on</SSL>", "<SSL>yes</SSL>"),
        ("<Server>localhost</Server>", ""),
        (outlook, "outlook/responseschema/2006"),
        ("<Action>settings</Action>", ""),
    ];
    assert_valid("--schema", "autodiscover.xsd", &settings, &changes);
    let ports = [daemon.imaps.port(), daemon.pop3s.port()];
    assert!(ports.iter().all(|port| settings.contains(&format!("<Port>{port}</Port>"))), "{settings}");
    for (address, schema, code) in
        [("bob@other.example", outlook, 500), ("", outlook, 600), (ADDRESS, "mobilesync/responseschema/2006", 601)]
    {
        let refusal = ask(address, schema);
        assert!(refusal.contains(&format!("<ErrorCode>{code}</ErrorCode>")), "{refusal}");
        assert_valid("--schema", "autodiscover.xsd", &refusal, &[("<ErrorCode>", "<ErrorCode>1"), ("Time=", "time=")]);
    }
}

#[test]
fn the_files_to_trust_agree() {
    if straight_run() {
        return;
    }
    let daemon = everything();
    let (home, base) = (scratch("files"), format!("http://localhost:{}", daemon.http.port()));
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    for name in ["ca.pem", "ca.crt", "mailweir.mobileconfig"] {
        let (status, head, body) = fetch(&format!("{base}/trust/{name}"), &[]);
        assert!(status == 200 && head.to_lowercase().contains("nosniff"), "{name}: {head}");
        assert!(!body.windows(7).any(|part| part == b"PRIVATE"), "{name}");
        std::fs::write(at(name), body).unwrap();
    }
    assert_eq!(std::fs::read(at("ca.pem")).unwrap(), std::fs::read(daemon.ca_file()).unwrap());
    told("openssl", &["x509", "-in", &at("ca.pem"), "-outform", "DER", "-out", &at("same.crt")]);
    assert_eq!(std::fs::read(at("same.crt")).unwrap(), std::fs::read(at("ca.crt")).unwrap());
    // The fingerprint that is to be compared is the one other programs show.
    let shown = told("openssl", &["x509", "-inform", "DER", "-in", &at("ca.crt"), "-noout", "-fingerprint", "-sha256"]);
    let fingerprint = shown.trim().rsplit('=').next().unwrap().to_owned();
    let page = daemon.http_get("/trust").1;
    assert!(page.replace(' ', ":").contains(&fingerprint), "{fingerprint} is not in {page}");
    let leaf = daemon.ca_file().parent().unwrap().join("server.pem");
    let leaf = leaf.to_str().unwrap();
    told(
        "openssl",
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "localhost",
            "-CAfile",
            &at("ca.pem"),
            leaf,
        ],
    );
    let text = told("openssl", &["x509", "-in", &at("ca.pem"), "-noout", "-text"]);
    assert!(text.contains("X509v3 Name Constraints: critical") && text.contains("IP:10.0.0.0/255.0.0.0"), "{text}");

    let check = |profile: &str| -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/mobileconfig.py");
        let table = schema("mobileconfig.json");
        serde_json::from_str(&told("python3", &["-B", script.to_str().unwrap(), &table, profile, &at("ca.crt")]))
            .unwrap()
    };
    assert_eq!(check(&at("mailweir.mobileconfig")), Value::Array(Vec::new()), "the authority alone");
    let (status, _, served) = fetch(&format!("{base}/trust/mailweir.mobileconfig?emailaddress=ann%40example.org"), &[]);
    assert_eq!(status, 200);
    std::fs::write(at("ann.mobileconfig"), &served).unwrap();
    let mail = &check(&at("ann.mobileconfig"))[0];
    assert_eq!(
        (&mail["EmailAddress"], &mail["EmailAccountType"]),
        (&ADDRESS.into(), &"EmailTypeIMAP".into()),
        "{mail}"
    );
    assert_eq!(mail["IncomingMailServerPortNumber"], daemon.imaps.port(), "{mail}");
    assert!(mail["IncomingMailServerUseSSL"] == true && mail.get("IncomingPassword").is_none(), "{mail}");

    // The command writes the same one, and passwords only when told.
    let config = daemon.config_file();
    let export = |more: &[&str]| {
        let config = config.to_str().unwrap();
        told(PROGRAM, &[&["certs", "export", "--config", config, "--mobileconfig"], more].concat())
    };
    assert_eq!(export(&[]).as_bytes(), served);
    let said = export(&["--with-passwords", "--pop3", "--out", &at("with.mobileconfig")]);
    let mail = &check(&at("with.mobileconfig"))[0];
    assert_eq!(
        (&mail["IncomingPassword"], &mail["EmailAccountType"]),
        (&LOCAL_PASSWORD.into(), &"EmailTypePOP".into())
    );
    assert!(!said.contains(LOCAL_PASSWORD) && said.contains(&fingerprint), "{said}");
}

/// The pages come over TLS too, on the same port: by it a person sees whether his device trusts the certificate.
#[test]
fn the_pages_speak_tls_on_the_same_port() {
    if straight_run() {
        return;
    }
    let daemon = everything();
    let url = format!("https://localhost:{}/trust", daemon.http.port());
    let (status, _, body) = fetch(&url, &["--cacert", daemon.ca_file().to_str().unwrap()]);
    assert!(status == 200 && String::from_utf8_lossy(&body).contains("came encrypted"));
    assert_eq!(run("curl", &["-sS", &url]).status.code(), Some(60), "a stranger's certificate");
    let evil = fetch(&format!("http://{}/trust", daemon.http), &["-H", "Host: evil.example"]);
    assert_eq!(evil.0, 421);
}

/// What a device at each of this computer's addresses gets with `lan = true`: everything encrypted, nothing of the owner's. An address that
/// is of no local network gets nothing at all.
#[test]
fn the_local_network_is_served_by_one_switch() {
    if straight_run() {
        return;
    }
    let home = scratch("lan");
    let ports = [free_port(), free_port(), free_port(), free_port(), free_port()];
    let [imap, imaps, pop3, submissions, http] = ports;
    let list = |port: u16| format!("[\"127.0.0.1:{port}\", \"[::1]:{port}\"]");
    let config = format!(
        "data_dir = \"data\"\n[listen]\nlan = true\nimap = {}\nimaps = {}\npop3 = {}\nsubmissions = {}\nhttp = {}\n[[account]]\naddress = \"{ADDRESS}\"\npassword = {{ plain = \"{LOCAL_PASSWORD}\" }}\n[account.imap]\nhost = \"127.0.0.1\"\nport = 9\ntls = \"none\"\npassword = {{ plain = \"x\" }}\n",
        list(imap),
        list(imaps),
        list(pop3),
        list(submissions),
        list(http),
    );
    let file = home.path().join("mailweir.toml");
    std::fs::write(&file, config).unwrap();
    let args = ["run", "--config", file.to_str().unwrap()];
    let mut server = Server::start(Path::new(PROGRAM), &args, &[], home.path(), &[]);
    assert!(server.wait_output(PATIENCE, |out| out.iter().any(|line| line == "ready")), "{}", server.printed());
    assert!(server.printed().contains(&format!("imap 0.0.0.0:{imap}")), "{}", server.printed());
    let ca = home.path().join("data/certs/ca.pem");

    let mut local = 0;
    for ip in told("hostname", &["-I"]).split_whitespace().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        let near = match ip {
            IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
            IpAddr::V6(_) => true,
        };
        println!("{ip}: {}", if near { "of the local network" } else { "from beyond" });
        let at = |port| SocketAddr::new(ip, port);
        if !near {
            for port in ports {
                let mut tcp = TcpStream::connect(at(port)).unwrap();
                tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                let read = tcp.read(&mut [0; 64]);
                let closed = match &read {
                    Ok(octets) => *octets == 0,
                    Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
                };
                assert!(closed, "{ip}:{port} is served: {read:?}");
            }
            continue;
        }
        local += 1;
        let mut client = Client::connect(at(imap));
        let refused = client.cmd(&format!("LOGIN {ADDRESS} {LOCAL_PASSWORD}"));
        assert!(refused.status != Status::Ok, "a password in the clear was taken");
        let said = client.cmd_ok("CAPABILITY").lines().join(" ");
        assert!(said.contains("LOGINDISABLED") && said.contains("STARTTLS"), "{said}");
        client.starttls(&ca);
        client.login(ADDRESS, LOCAL_PASSWORD);
        Client::connect_tls(at(imaps), &ca).login(ADDRESS, LOCAL_PASSWORD);
        let url = |path: &str| format!("http://{}{path}", at(http));
        // The owner's pages want a token, and there is none; where to go instead is told.
        for path in ["/", "/events", "/metrics", "/status.json", "/readyz"] {
            let (status, _, told) = fetch(&url(path), &["-H", "Accept: text/html"]);
            assert_eq!(status, 401, "{path}");
            assert!(String::from_utf8_lossy(&told).contains("href=\"/trust\""), "{path}");
        }
        let (status, _, page) = fetch(&url("/trust"), &[]);
        let page = String::from_utf8(page).unwrap();
        assert!(status == 200 && !page.contains("ann@") && !page.contains("example.org"), "{page}");
        let (status, _, document) = fetch(&url("/mail/config-v1.1.xml?emailaddress=ann@example.org"), &[]);
        let host = format!("<hostname>{ip}</hostname>");
        assert!(status == 200 && String::from_utf8_lossy(&document).contains(&host), "the address it came to");
    }
    assert!(local > 0, "this computer has no address in a local network to try with");
    // At home nothing has changed.
    Client::connect(SocketAddr::from(([127, 0, 0, 1], imap))).login(ADDRESS, LOCAL_PASSWORD);
    let (status, _, page) = fetch(&format!("http://localhost:{http}/trust"), &[]);
    assert!(status == 200 && String::from_utf8_lossy(&page).contains(ADDRESS));
    assert_eq!(fetch(&format!("http://localhost:{http}/status.json"), &[]).0, 200);
    server.stop(PATIENCE).expect("it ends");
}

#[test]
fn the_trust_page_is_fit_for_people() {
    if straight_run() {
        return;
    }
    let mut daemon = everything();
    daemon.stop();
    // With a QR code on it.
    daemon.change(|setup| setup.listen_more += "lan = true\n");
    daemon.restart();
    let pictures = pictures();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/trustpage.mjs");
    let web = servers_dir().join("web");
    let url = format!("http://localhost:{}/trust", daemon.http.port());
    let said = told("node", &[script.to_str().unwrap(), web.to_str().unwrap(), &url, pictures.to_str().unwrap()]);
    let views: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(views.len(), 4, "{said}");
    for view in &views {
        let name = format!("{} {}", view["name"], view["scheme"]);
        assert_eq!(view["elsewhere"], Value::Array(Vec::new()), "{name}: a request that is not the page");
        assert_eq!(view["logged"], Value::Array(Vec::new()), "{name}");
        assert_eq!(view["violations"], Value::Array(Vec::new()), "{name}");
        assert!(view["passes"].as_u64().unwrap() > 10, "{name}: axe-core looked at nothing");
        for state in ["closed", "open"] {
            assert_eq!(view[state]["sideways"], 0, "{name}, {state}: it has to be scrolled sideways");
        }
        assert!(view["open"]["height"].as_u64() > view["closed"]["height"].as_u64(), "{name}: nothing unfolds");
        let of = |scheme: &str| &views.iter().find(|v| v["scheme"] == scheme).unwrap()["closed"]["background"];
        assert!(of("light") != of("dark"));
        let picture =
            pictures.join(format!("trust-{}-{}.png", view["name"].as_str().unwrap(), view["scheme"].as_str().unwrap()));
        assert!(std::fs::metadata(&picture).unwrap().len() > 20_000, "{} shows nothing", picture.display());
        // As a camera would read it.
        let read = told("zbarimg", &["-q", "--raw", "--nodbus", picture.to_str().unwrap()]);
        let read = read.trim();
        assert!(read.starts_with("http://") && read.ends_with("/trust") && !read.contains("localhost"), "{read}");
        assert!(daemon.http_get("/trust").1.contains(&format!("<code>{read}</code>")), "{read} is not on the page");
    }
}

/// Kept beside what the build makes, so that a person can look at them.
pub(crate) fn pictures() -> PathBuf {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    pictures
}

/// Browsers open connections ahead of need; they hold up nobody's end.
#[test]
fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
    if straight_run() {
        return;
    }
    let mut daemon = everything();
    let _silent = TcpStream::connect(daemon.http).unwrap();
    let mut begun = TcpStream::connect(daemon.http).unwrap();
    begun.write_all(&[22, 3, 1]).unwrap();
    // Accepted after those two, so both are waited for by now.
    assert_eq!(daemon.http_get("/healthz").0, 200);
    let from = Instant::now();
    assert_eq!(daemon.stop(), 0);
    // Well below the daemon's grace of eight seconds.
    assert!(from.elapsed() < Duration::from_secs(5), "{:?}", from.elapsed());
}

/// A connection that begins with TLS bytes but is none gets no page, and the daemon goes on.
#[test]
fn half_a_handshake_is_no_trouble() {
    if straight_run() {
        return;
    }
    let daemon = everything();
    let mut tcp = TcpStream::connect(daemon.http).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(&[22, 3, 1, 0, 5, b'h', b'e', b'l', b'l', b'o', 22]).unwrap();
    let mut rest = Vec::new();
    // An alert and the end, or a reset.
    let _ = tcp.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"));
    assert_eq!(daemon.http_get("/healthz").0, 200);
}
