//! The daemon's memory and environment are closed to the same user's other programs, and it leaves no core.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::harness::daemon::PROGRAM;
use crate::harness::process::Server;
use crate::harness::{accepts, free_port, give_to_nobody, scratch, straight_run, wait_for};

#[test]
fn no_core_and_no_debugger_of_the_same_user() {
    if straight_run() {
        return;
    }
    let home = scratch("memory");
    let at = ([127, 0, 0, 1], free_port()).into();
    let config = home.path().join("mailweir.toml");
    std::fs::write(&config, format!("data_dir = \"data\"\n[listen]\nimap = [\"{at}\"]\n")).unwrap();
    // Where everybody can run it: the target directory may lie in a private home.
    let program = home.path().join("mailweir");
    std::fs::copy(PROGRAM, &program).unwrap();
    give_to_nobody(home.path());
    // As an ordinary user, who wants cores.
    let line = format!(
        "ulimit -c unlimited; exec setpriv --reuid 65534 --regid 65534 --clear-groups '{}' run --config '{}'",
        program.display(),
        config.display()
    );
    let mut server = Server::start(Path::new("/bin/sh"), &["-c", &line], &[], home.path(), &[]);
    wait_for("the daemon", || accepts(at) || server.ended().is_some());
    let pid = server.pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // What the kernel does to a process that is not dumpable: its files in /proc are root's.
    assert_eq!(std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
    let same_user = |arguments: &[&str]| {
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let out =
            Command::new("setpriv").args(nobody).args(arguments).current_dir(home.path()).output().expect("setpriv");
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for file in ["environ", "mem", "maps"] {
        let (read, said) = same_user(&["cat", &format!("/proc/{pid}/{file}")]);
        assert!(!read && said.contains("Permission denied"), "{file}: {said}");
    }
    // A process that is: the same look goes through.
    let mut other = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sleep", "60"])
        .spawn()
        .unwrap();
    let open = format!("/proc/{}/maps", other.id());
    wait_for("the other process", || same_user(&["cat", &open]).0);
    other.kill().unwrap();
    other.wait().unwrap();
    server.signal("ABRT");
    assert!(server.wait_end(crate::harness::PATIENCE).is_some_and(|code| code != 0));
    let cores = std::fs::read_dir(home.path())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("core"));
    assert_eq!(cores.count(), 0);
}
