//! A password in the desktop's keyring: GNOME's, on a bus of the test's own.

use std::process::{Command, Stdio};

use crate::harness::daemon::PROGRAM;
use crate::harness::dovecot::Dovecot;
use crate::harness::{UPSTREAM_PASSWORD, scratch, straight_run};

#[test]
fn a_password_in_the_keyring_logs_in_and_a_missing_keyring_is_told() {
    if straight_run() {
        return;
    }
    let dovecot = Dovecot::start();
    let home = scratch("keyring");
    let config = home.path().join("mailweir.toml");
    let text = format!(
        "data_dir = \"data\"\n[listen]\nimap = [\"127.0.0.1:0\"]\n[[account]]\naddress = \"ann@example.org\"\npassword = {{ plain = \"x\" }}\n\
         [account.imap]\nhost = \"localhost\"\nport = {}\ntls = \"none\"\nusername = \"ann\"\npassword = {{ keyring = \"ann\" }}\n",
        dovecot.imap.port()
    );
    std::fs::write(&config, text).unwrap();
    let check = format!("'{PROGRAM}' check --config '{}'", config.display());
    let run = |script: &str, bus: bool| {
        let mut command = if bus {
            let mut command = Command::new("dbus-run-session");
            command.args(["--", "sh", "-c", script]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", script]).env_remove("DBUS_SESSION_BUS_ADDRESS");
            command
        };
        // A desktop of its own: neither the keyring nor the bus of whoever runs the tests is touched.
        let runtime = home.path().join("run");
        std::fs::create_dir_all(&runtime).unwrap();
        command.env("HOME", home.path()).env("XDG_RUNTIME_DIR", runtime).env_remove("DISPLAY").stdin(Stdio::null());
        let out = command.output().expect("dbus-run-session (tests/run installs it)");
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let unlock = "printf desktop | gnome-keyring-daemon --unlock --components=secrets >/dev/null";
    let store = format!("printf {UPSTREAM_PASSWORD} | secret-tool store --label=mailweir service mailweir account ann");
    let (code, said) = run(&format!("{unlock} && {store} && {check}"), true);
    assert!(code == Some(0) && said.contains("takes the login"), "{said}");
    assert!(!said.contains(UPSTREAM_PASSWORD), "{said}");
    let clear = "secret-tool clear service mailweir account ann";
    let (code, said) = run(&format!("{unlock} && {clear}; {check}"), true);
    assert!(code == Some(1) && said.contains("there is no such entry"), "{said}");
    // A machine without a desktop.
    let (code, said) = run(&check, false);
    assert!(code == Some(1) && said.contains("the keyring does not give `ann`"), "{said}");
}
