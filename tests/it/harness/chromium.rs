//! A person's own browser: Chromium, headless, driven by `tests/clients/consent.mjs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{scratch, servers_dir};

/// A browser with its profile.
pub struct Chromium {
    dir: tempfile::TempDir,
}

impl Chromium {
    pub fn new() -> Self {
        Self { dir: scratch("chromium") }
    }

    /// The command that visits `address` and consents as `user`, typing `code` where one is asked for.
    fn command(&self, user: &str, address: &str, code: Option<&str>) -> Command {
        let mut command = Command::new("node");
        command
            .arg(script())
            .arg(servers_dir().join("web"))
            .arg(self.dir.path().join("profile"))
            .arg(user)
            .arg(address);
        command.args(code).env("HOME", self.dir.path());
        command
    }

    /// Visits, logs in and consents; the last page, as JSON.
    pub fn consent(&self, user: &str, address: &str, code: Option<&str>) -> String {
        let out = self.command(user, address, code).output().expect("node (tests/run installs it)");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        said
    }

    /// A directory for PATH with an `xdg-open` that opens this browser, as a desktop's does, beyond the terminal's end; and the file its last page is written to.
    pub fn as_the_desktops(&self, user: &str) -> (PathBuf, PathBuf) {
        let (bin, last) = (self.dir.path().join("bin"), self.dir.path().join("last.json"));
        std::fs::create_dir_all(&bin).unwrap();
        let text = format!(
            "#!/bin/sh\nHOME='{home}' BROWSER_LOG='{last}' exec setsid -f node '{script}' '{web}' '{home}/profile' '{user}' \"$1\" 2>'{home}/errors'\n",
            home = self.dir.path().display(),
            last = last.display(),
            script = script().display(),
            web = servers_dir().join("web").display(),
        );
        let file = bin.join("xdg-open");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        (bin, last)
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/consent.mjs")
}
