//! Looks for secrets in bytes: as they are, and in every form they take on a wire or in a log.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// What to look for, by the names of the secrets.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    forms: Vec<(String, String)>,
}

impl Wanted {
    /// One more secret: plain, quoted as IMAP and JSON do, percent-encoded, in hexadecimal, and the part of its base64 that is the same
    /// whatever stands around it.
    pub fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 12, "{name}: too short to be unmistakable");
        let bytes = secret.as_bytes();
        let mut forms = vec![("plain".to_owned(), secret.to_owned())];
        forms.push(("quoted".into(), secret.replace('\\', "\\\\").replace('"', "\\\"")));
        let encoded = |space: &str| {
            let encode = |b: &u8| match b {
                b' ' => space.to_owned(),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*b).to_string(),
                b => format!("%{b:02X}"),
            };
            bytes.iter().map(encode).collect::<String>()
        };
        forms.push(("percent-encoded".into(), encoded("%20")));
        forms.push(("form-encoded".into(), encoded("+")));
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        forms.push(("hexadecimal".into(), hex.clone()));
        forms.push(("HEXADECIMAL".into(), hex.to_uppercase()));
        // As `{:?}` of bytes prints it.
        let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
        forms.push(("a list of numbers".into(), list.join(", ")));
        for before in 0..3 {
            let padded = [&vec![0; before][..], bytes].concat();
            // Characters that a neighbour's bits are in are left out, at both ends.
            let (skip, whole) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            for text in [STANDARD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                forms.push((format!("base64 at {before}"), text[skip..whole].to_owned()));
            }
        }
        forms.sort_by(|a, b| a.1.cmp(&b.1));
        forms.dedup_by(|a, b| a.1 == b.1);
        self.forms.extend(forms.into_iter().map(|(form, text)| (format!("{name}, {form}"), text)));
    }

    /// The passwords every test has.
    pub fn of_all_tests() -> Self {
        let mut wanted = Self::default();
        wanted.add("the password at the upstream servers", super::UPSTREAM_PASSWORD);
        wanted.add("the local password", super::LOCAL_PASSWORD);
        wanted
    }

    /// The names of what stands in these bytes.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        // As text: the standard library's search is fast in a debug build, too; what is no UTF-8 is no part of any form.
        let text = String::from_utf8_lossy(bytes);
        self.forms.iter().filter(|(_, form)| text.contains(form.as_str())).map(|(name, _)| name.as_str()).collect()
    }

    /// The files below `dir` that hold any of it, by grep: there may be a gigabyte of them.
    pub fn files_below(&self, dir: &Path) -> Vec<PathBuf> {
        self.grep(&[Path::new("-r"), dir])
    }

    fn grep(&self, arguments: &[&Path]) -> Vec<PathBuf> {
        // The patterns by a pipe: there they are no arguments of a process.
        let patterns: String = self.forms.iter().map(|(_, form)| format!("{form}\n")).collect();
        let mut grep = Command::new("grep")
            .args(["-laF", "-f", "-"])
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("grep");
        grep.stdin.take().unwrap().write_all(patterns.as_bytes()).expect("grep reads");
        let out = grep.wait_with_output().expect("grep");
        // Files that go while it reads are its status 2; what it has found counts.
        String::from_utf8_lossy(&out.stdout).lines().map(PathBuf::from).collect()
    }
}

/// Runs a command of ours to its end and searches what it has printed for the passwords every test has.
pub trait Searched {
    fn output_searched(&mut self) -> std::io::Result<Output>;
}

impl Searched for Command {
    fn output_searched(&mut self) -> std::io::Result<Output> {
        let out = self.output()?;
        let wanted = Wanted::of_all_tests();
        for text in [&out.stdout, &out.stderr] {
            let found = wanted.found_in(text);
            assert!(found.is_empty(), "{:?} has printed {}", self.get_program(), found.join(", "));
        }
        Ok(out)
    }
}

#[test]
#[should_panic(expected = "has printed the local password, plain")]
fn a_password_that_is_printed_is_found() {
    let _ = Command::new("echo").arg(super::LOCAL_PASSWORD).output_searched();
}

#[test]
fn every_form_is_found_wherever_it_stands() {
    let mut wanted = Wanted::default();
    let secret = "Geheim\"7\\ 4711";
    wanted.add("it", secret);
    for before in 0..4 {
        for after in 0..4 {
            let around = [&b"xyz\0"[..before], secret.as_bytes(), &b"\0abc"[..after]].concat();
            for text in [STANDARD.encode(&around), URL_SAFE_NO_PAD.encode(&around)] {
                assert!(!wanted.found_in(text.as_bytes()).is_empty(), "{before} {after} {text}");
            }
        }
    }
    for text in [
        "x Geheim\"7\\ 4711 y",
        "\"Geheim\\\"7\\\\ 4711\"",
        "p=Geheim%227%5C+4711&",
        "Geheim%227%5C%204711",
        "47656865696d22375c2034373131",
    ] {
        assert!(!wanted.found_in(text.as_bytes()).is_empty(), "{text}");
    }
    assert!(!wanted.found_in(format!("{:?}", secret.as_bytes()).as_bytes()).is_empty());
    assert!(wanted.found_in(b"Geheim").is_empty());
    let dir = super::scratch("search");
    std::fs::write(dir.path().join("clean"), "nothing").unwrap();
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    std::fs::write(dir.path().join("deep/dirty"), [b"\0\xff\n", secret.as_bytes(), b"\0"].concat()).unwrap();
    assert_eq!(wanted.files_below(dir.path()), [dir.path().join("deep/dirty")]);
}
