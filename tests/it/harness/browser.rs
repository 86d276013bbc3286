//! A headless Chromium, driven by `tests/clients/browser.mjs`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::servers_dir;

/// Starting Chromium on a busy machine takes long; so does looking at a page in every way.
const ANSWER_WAIT: Duration = Duration::from_secs(90);

pub struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Browser {
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/browser.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .env("MODULES", servers_dir().join("web/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node (tests/run installs it, Chromium and the packages)");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let browser = Self { child, input, answers };
        assert_eq!(browser.hear(), json!({ "ready": true }));
        browser
    }

    fn hear(&self) -> Value {
        let line = self.answers.recv_timeout(ANSWER_WAIT).expect("an answer of the browser's");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Runs one of the script's commands.
    pub fn ask(&mut self, command: Value) -> Value {
        let input = self.input.as_mut().expect("it runs");
        writeln!(input, "{command}").unwrap();
        let mut answer = self.hear();
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["answer"].take()
    }

    pub fn open(&mut self, url: &str) -> u64 {
        self.ask(json!({ "do": "open", "url": url }))["status"].as_u64().unwrap()
    }

    pub fn figures(&mut self) -> Value {
        self.ask(json!({ "do": "figures" }))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends it, and Chromium with it.
        drop(self.input.take());
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::time::Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where pictures of the page are put: for people to look at.
pub fn pictures() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tmp.parent().expect("the target directory").join("screenshots");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
