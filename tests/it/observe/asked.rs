//! `mailweir status` of a daemon that listens for it by an address in the network alone: it shows the token by itself.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::daemon::PROGRAM;
use crate::harness::process::Server;
use crate::harness::{ADDRESS, LOCAL_PASSWORD, PATIENCE, free_port, scratch};

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An address of this computer that is not loopback.
fn own_address() -> IpAddr {
    let told = Command::new("hostname").arg("-I").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let mut addresses = told.split_whitespace().filter_map(|ip| ip.parse::<IpAddr>().ok());
    addresses.find(IpAddr::is_ipv4).expect("this computer has no address in a network to try with")
}

#[test]
fn status_shows_the_token_where_there_is_no_loopback() {
    let home = scratch("asked");
    let (ip, http) = (own_address(), free_port());
    let write = |name: &str, text: &str| {
        let file = home.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let config = |token: &str| {
        format!(
            "data_dir = \"data\"\n[listen]\nhttp = [\"{ip}:{http}\"]\n[http]\n{token}\n[[account]]\naddress = \"{ADDRESS}\"\npassword = {{ plain = \"{LOCAL_PASSWORD}\" }}\n[account.imap]\nhost = \"127.0.0.1\"\nport = 9\ntls = \"none\"\npassword = {{ plain = \"x\" }}\n"
        )
    };
    let right = write("right.toml", &config("token = { plain = \"correct horse battery staple\" }"));
    let wrong = write("wrong.toml", &config("token = { plain = \"correct horse battery fluid\" }"));
    let none = write("none.toml", &config(""));
    let server = Server::start(Path::new(PROGRAM), &["run", "--config", &right], &[], home.path(), &[]);
    assert!(server.wait_output(PATIENCE, |out| out.iter().any(|line| line == "ready")), "{}", server.printed());

    let told = run(&["status", "--config", &right]);
    assert!(told.status.success() && said(&told).contains(ADDRESS), "{}", said(&told));
    let json = run(&["status", "--json", "--config", &right]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("a report");
    assert_eq!(report["accounts"][0]["address"], ADDRESS);
    assert!(!server.printed().contains("wrong token"), "{}", server.printed());

    // What is not taken is told with its mend, and shown once.
    let told = run(&["status", "--config", &wrong]);
    assert!(!told.status.success() && said(&told).contains("does not take the token"), "{}", said(&told));
    assert_eq!(server.printed().matches("wrong token").count(), 1, "{}", server.printed());
    let told = run(&["status", "--config", &none]);
    assert!(!told.status.success() && said(&told).contains("set [http] token"), "{}", said(&told));
    for text in [said(&run(&["status", "--config", &wrong])), server.printed()] {
        assert!(!text.contains("battery"), "{text}");
    }
}
