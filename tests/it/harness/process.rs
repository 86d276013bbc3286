//! A server as a child process that cannot outlive the test.
//!
//! Each runs under a small shell that holds our end of a pipe as its standard input: when the test ends in any way, a
//! kill -9 included, the pipe closes, the shell ends the server and then removes its directories. Its exit status
//! becomes the shell's, and its process id is the first line of output.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::search::Wanted;

const KEEPER: &str = r#"
dirs=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
pid=$!
echo $pid
leash_gone=
trap 'leash_gone=1' USR1
(
  read -r _ <&3
  kill -USR1 $$
  kill -TERM $pid
  tries=0
  while [ $tries -lt 100 ] && kill -0 $pid; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL $pid
) 2>/dev/null &
keeper=$!
while :; do
  wait $pid
  code=$?
  kill -0 $pid 2>/dev/null || break
done
kill $keeper 2>/dev/null
if [ -n "$leash_gone" ]; then
  IFS=:
  for dir in $dirs; do rm -rf "$dir"; done
fi
exit $code
"#;

/// A running server, its output as it comes, and its end.
pub struct Server {
    shell: Child,
    leash: Option<ChildStdin>,
    pid: u32,
    output: Arc<Output>,
    name: String,
    /// The shell removes its directories after it: nobody need wait for that.
    cleans_up: bool,
}

/// What a server has printed so far, both streams.
#[derive(Default)]
pub struct Output {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    out: Vec<String>,
    err: Vec<String>,
    open: usize,
}

impl Server {
    /// Starts `program` with `args` in `dir`. When the test lets go of it, `remove` are removed after its end.
    pub fn start(program: &Path, args: &[&str], env: &[(&str, &str)], dir: &Path, remove: &[&Path]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(KEEPER).arg("keeper");
        command
            .arg(remove.iter().map(|d| d.to_str().expect("UTF-8")).collect::<Vec<_>>().join(":"))
            .arg(program)
            .args(args)
            .current_dir(dir);
        command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Cyrus ends by a signal to its whole group, which must not be ours.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut shell = command.spawn().expect("spawn");
        let leash = shell.stdin.take();
        let mut out = BufReader::new(shell.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).expect("the keeper's first line");
        let pid = first.trim().parse().expect("the keeper prints a process id");
        let output = Arc::new(Output::default());
        output.lines.lock().unwrap().open = 2;
        follow(output.clone(), out, |lines| &mut lines.out);
        follow(output.clone(), BufReader::new(shell.stderr.take().unwrap()), |lines| &mut lines.err);
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        Self { shell, leash, pid, output, name, cleans_up: !remove.is_empty() }
    }

    /// The server's own process id, not the shell's.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, if it has ended. 128 + n for signal n, as shells count.
    pub fn ended(&mut self) -> Option<i32> {
        self.shell.try_wait().expect("wait").map(|status| status.code().unwrap_or(-1))
    }

    /// Waits until `found` is true of the standard output so far. False when it ended before, or at the deadline.
    pub fn wait_output(&self, patience: Duration, mut found: impl FnMut(&[String]) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            if found(&lines.out) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.open < 2 {
                return false;
            }
            lines = self.output.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Everything it has printed, standard output first.
    pub fn printed(&self) -> String {
        let lines = self.output.lines.lock().unwrap();
        format!("{}\n--- stderr ---\n{}", lines.out.join("\n"), lines.err.join("\n"))
    }

    /// Standard error alone.
    pub fn errors(&self) -> String {
        self.output.lines.lock().unwrap().err.join("\n")
    }

    /// Sends a signal by name to the server.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status().expect("kill");
        assert!(status.success() || name == "KILL", "kill -{name} {} ({}) failed", self.pid, self.name);
    }

    /// Asks it to end and waits; after `grace` it is killed. Its exit status, or `None` when it had to be killed.
    pub fn stop(&mut self, grace: Duration) -> Option<i32> {
        if let Some(code) = self.ended() {
            return Some(code);
        }
        self.signal("TERM");
        let code = self.wait_end(grace);
        if code.is_none() {
            self.kill();
        }
        code
    }

    /// Waits for it to end by itself.
    pub fn wait_end(&mut self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(code) = self.ended() {
                return Some(code);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kill -9, and gone when this returns.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal("KILL");
            assert!(self.wait_end(Duration::from_secs(10)).is_some(), "{} survives SIGKILL", self.name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.leash.take());
        if !self.cleans_up && self.wait_end(Duration::from_secs(10)).is_none() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- {} printed ---\n{}", self.name, self.printed());
        } else if self.name == "mailweir" {
            // Whatever a test is about: no password of its own is in what the daemon has said (Law 12).
            let found = Wanted::of_all_tests().found_in(self.printed().as_bytes()).join(", ");
            assert!(found.is_empty(), "{found} stands in what the daemon has printed:\n{}", self.printed());
        }
    }
}

fn follow(output: Arc<Output>, mut from: impl BufRead + Send + 'static, to: fn(&mut Lines) -> &mut Vec<String>) {
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            to(&mut output.lines.lock().unwrap()).push(text);
            output.more.notify_all();
        }
        output.lines.lock().unwrap().open -= 1;
        output.more.notify_all();
    });
}
