//! The units `mailweir service` writes, read by systemd's own tools; and the service manager's protocol, spoken by its own tool where it has
//! one.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::daemon::PROGRAM;
use crate::harness::process::Server;
use crate::harness::search::Searched as _;
use crate::harness::{PATIENCE, accepts, free_port, scratch, straight_run, wait_for};

fn run(program: &str, home: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    let out = command
        .args(arguments)
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env_remove("XDG_CONFIG_HOME")
        .output_searched();
    let out = out.unwrap_or_else(|error| panic!("{program} (tests/run installs it): {error}"));
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

/// Exposure of a unit as `systemd-analyze security` counts it, from 0 (none) to 100.
const EXPOSURE: &str = "--threshold=25";

#[test]
fn the_units_are_understood_and_closed() {
    if straight_run() {
        return;
    }
    let home = scratch("service");
    let config = home.path().join("mailweir.toml");
    std::fs::write(&config, "data_dir = \"data\"\n[listen]\nimap = [\"127.0.0.1:1143\"]\n").unwrap();
    let config = config.to_str().unwrap();
    let file = home.path().join("mailweir.service");
    let (done, unit) = run(PROGRAM, home.path(), &["service", "print", "--system", "--as", "mail", "--config", config]);
    assert!(done, "{unit}");
    std::fs::write(&file, &unit).unwrap();
    let file = file.to_str().unwrap();
    let (done, said) = run("systemd-analyze", home.path(), &["verify", "--man=no", "--recursive-errors=no", file]);
    assert!(done && said.trim().is_empty(), "{said}");
    let (done, said) =
        run("systemd-analyze", home.path(), &["security", "--no-pager", "--offline=yes", EXPOSURE, file]);
    println!("{}", said.lines().last().unwrap_or_default());
    assert!(done, "{said}");

    // The user's own, written and removed; nothing is started.
    let (done, said) = run(PROGRAM, home.path(), &["service", "install", "--no-start", "--config", config]);
    let own = home.path().join(".config/systemd/user/mailweir.service");
    assert!(done && own.exists(), "{said}");
    let arguments = ["verify", "--user", "--man=no", "--recursive-errors=no", own.to_str().unwrap()];
    let (done, said) = run("systemd-analyze", home.path(), &arguments);
    assert!(done && said.trim().is_empty(), "{said}");
    let (done, said) = run(PROGRAM, home.path(), &["service", "uninstall"]);
    assert!(done && !own.exists(), "{said}");
    assert!(!run(PROGRAM, home.path(), &["service", "install", "--system"]).0, "a system's unit names its user");
}

/// A configuration without accounts that listens for IMAP at `address`, in plain.
fn listening(home: &Path, address: SocketAddr) -> PathBuf {
    let config = home.join("mailweir.toml");
    std::fs::write(&config, format!("data_dir = \"data\"\n[listen]\nimap = [\"{address}\"]\n")).unwrap();
    config
}

#[test]
fn a_low_port_is_the_socket_units() {
    if straight_run() {
        return;
    }
    let home = scratch("service");
    let config = listening(home.path(), "0.0.0.0:143".parse().unwrap());
    let arguments = ["service", "print", "--system", "--as", "mail", "--config", config.to_str().unwrap()];
    let (done, units) = run(PROGRAM, home.path(), &arguments);
    assert!(done, "{units}");
    let (service, socket) = units.split_once("# mailweir.socket\n").expect("a socket unit");
    let files = [("mailweir.service", service), ("mailweir.socket", socket)].map(|(name, text)| {
        let file = home.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    });
    for file in files {
        let (done, said) = run("systemd-analyze", home.path(), &["verify", "--man=no", "--recursive-errors=no", &file]);
        assert!(done && said.trim().is_empty(), "{said}");
    }
}

#[test]
fn a_socket_of_the_service_manager_is_taken() {
    if straight_run() {
        return;
    }
    let home = scratch("service");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = listening(home.path(), address);
    // It listens, and starts the daemon when somebody comes; the daemon could not bind the address a second time.
    let listen = format!("--listen={address}");
    let args = [&listen, PROGRAM, "run", "--config", config.to_str().unwrap()];
    let starter = Path::new("/usr/bin/systemd-socket-activate");
    let server = Server::start(starter, &args, &[], home.path(), &[]);
    wait_for("systemd-socket-activate", || accepts(address));
    let mut client = Client::connect(address);
    assert!(client.greeting.contains("mailweir"), "{}", client.greeting);
    client.c("A NOOP").ok("A");
    assert!(server.wait_output(PATIENCE, |out| out.iter().any(|line| *line == format!("imap {address}"))));
}

#[test]
fn the_service_manager_is_told_how_it_is() {
    if straight_run() {
        return;
    }
    let home = scratch("service");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = listening(home.path(), address);
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let until = |what: &str| {
        let mut heard = Vec::new();
        let mut datagram = [0; 4096];
        loop {
            let length = manager.recv(&mut datagram).unwrap_or_else(|e| panic!("{what} never came ({e}): {heard:?}"));
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let found = text.lines().any(|line| line == what);
            heard.push(text);
            if found {
                return heard;
            }
        }
    };
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    // The manager names the process it watches.
    let run = format!("WATCHDOG_PID=$$ exec '{PROGRAM}' run --config '{}'", config.display());
    let mut server = Server::start(Path::new("/bin/sh"), &["-c", &run], &env, home.path(), &[]);
    until("READY=1");
    assert!(accepts(address), "ready means that it listens");
    for _ in 0..3 {
        let heard = until("WATCHDOG=1");
        assert!(heard.concat().contains("STATUS=0 accounts, "), "{heard:?}");
    }
    server.signal("HUP");
    until("RELOADING=1");
    until("READY=1");
    server.signal("TERM");
    until("STOPPING=1");
    assert_eq!(server.wait_end(Duration::from_secs(20)), Some(0));
}

/// Read by another's reader of property lists, and its keys are launchd.plist(5)'s.
#[test]
fn the_property_list_of_launchd_is_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/com.mailweir.daemon.plist");
    let read = "import plistlib, sys; d = plistlib.load(open(sys.argv[1], 'rb')); \
                print(d['Label'], ' '.join(d['ProgramArguments']), d['KeepAlive'], d['Umask'], *sorted(d))";
    let (done, said) = run("/usr/bin/python3", Path::new("/"), &["-c", read, file]);
    let keys =
        "ExitTimeOut KeepAlive Label ProcessType ProgramArguments RunAtLoad SoftResourceLimits ThrottleInterval Umask";
    let want = format!("com.mailweir.daemon /usr/local/bin/mailweir run {{'SuccessfulExit': False}} 63 {keys}\n");
    assert!(done && said == want, "{said}");
}
