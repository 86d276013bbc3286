//! The units `mailweir service` writes, read by systemd's own tools.

use std::path::Path;
use std::process::Command;

use crate::harness::daemon::PROGRAM;
use crate::harness::{scratch, straight_run};

fn run(program: &str, home: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    let out =
        command.args(arguments).env("HOME", home).env("XDG_RUNTIME_DIR", home).env_remove("XDG_CONFIG_HOME").output();
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
