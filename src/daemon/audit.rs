//! The audit trail on disk: a line of JSON for each write that can make mail disappear, in files of their own that are begun anew at a
//! size and kept up to a count.
//!
//! `data_dir/audit/audit.jsonl` is the one in use, `audit.1.jsonl` the one before; nobody else can read them. Records are handed to a thread
//! over a queue with a bound: no write of a client's waits for this disk. What cannot be written is an error in the log and in
//! `mailweir_audit_errors_total`, and the log has the record all the same (target `mailweir::audit`). A file that cannot be put away goes on
//! growing, up to what all files together may take: a long file is better than a gap.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{debug, error, info};

use crate::config;
use crate::engine::{Audit, Record};
use crate::metrics::Metrics;
use crate::net::files::make_private_dir;

/// The directory in the data directory.
const DIR: &str = "audit";
/// Records that wait for the disk: of 60 KB each at most, and mostly of some hundred octets.
const WAITING: usize = 1024;
/// A file that could not be put away is tried again each time it has grown by one part of so many of its size.
const PARTS: u64 = 8;
/// How long the end of the daemon waits for the last of them.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Takes the records of all accounts.
pub(super) struct Trail {
    metrics: Metrics,
    /// To the thread; `None` where nothing is to be written to files.
    lines: Option<SyncSender<Option<String>>>,
    writer: Mutex<Option<(JoinHandle<()>, Receiver<()>)>>,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("to_files", &self.lines.is_some()).finish_non_exhaustive()
    }
}

impl Trail {
    pub(super) fn open(settings: &config::Log, data_dir: &Path, metrics: &Metrics) -> Self {
        let mut trail = Self { metrics: metrics.clone(), lines: None, writer: Mutex::default() };
        if settings.audit {
            let (lines, taken) = sync_channel(WAITING);
            let (ended, end) = sync_channel(1);
            let files = Files::new(&data_dir.join(DIR), settings.audit_size, settings.audit_files);
            let counted = metrics.clone();
            let writer = std::thread::Builder::new().name("audit".into()).spawn(move || {
                write_all(files, &taken, &counted);
                // Nobody waits: the daemon was given up.
                let _ = ended.send(());
            });
            match writer {
                Ok(writer) => {
                    trail.lines = Some(lines);
                    trail.writer = Mutex::new(Some((writer, end)));
                }
                Err(error) => {
                    metrics.audit_failed();
                    error!(%error, "the audit trail cannot be kept");
                }
            }
        }
        trail
    }

    /// Waits until what was told is written, within some seconds. Blocks.
    pub(super) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(lines), Some((writer, end))) = (&self.lines, writer) else { return };
        let deadline = Instant::now() + LAST_WAIT;
        // A full queue empties, unless the disk hangs.
        while let Err(TrySendError::Full(_)) = lines.try_send(None) {
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        match end.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(writer.join()),
            Err(RecvTimeoutError::Timeout) => {
                error!("the disk takes no more of the audit trail: its last records are lost")
            }
        }
    }
}

impl Audit for Trail {
    fn record(&self, record: Record) {
        self.metrics.audited(record.action, record.outcome.as_str());
        let line = line(&record);
        if record.policy.is_some() {
            // Once a session, and the only word there is of it: the messages stay where they are.
            info!(target: "mailweir::audit", "deleted over POP3: {line}");
        } else {
            debug!(target: "mailweir::audit", "{line}");
        }
        let Some(lines) = &self.lines else { return };
        if lines.try_send(Some(line)).is_err() {
            self.metrics.audit_failed();
            error!(action = record.action, mailbox = %record.mailbox.escape_debug(), "the audit trail has a gap: the disk is too slow");
        }
    }
}

/// Until it is told to end, or nobody is left to tell.
fn write_all(mut files: Files, lines: &Receiver<Option<String>>, metrics: &Metrics) {
    while let Ok(Some(line)) = lines.recv() {
        let written = files.append(&line);
        if let Some(error) = files.not_turned.take() {
            metrics.audit_not_turned();
            error!(%error, dir = %files.dir.display(), "a full file of the audit trail cannot be put away: it goes on growing for now");
        }
        if let Err(error) = written {
            metrics.audit_failed();
            error!(%error, dir = %files.dir.display(), "the audit trail has a gap: a record cannot be written");
        }
    }
}

/// A record as one line. What others have chosen (names, ids, words) cannot end the line or move a terminal's cursor.
fn line(record: &Record) -> String {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.into(), value);
        }
    };
    put("time", OffsetDateTime::from(record.at).format(&Rfc3339).ok().map(Value::from));
    put("action", Some(record.action.into()));
    put("outcome", Some(record.outcome.as_str().into()));
    put("account", Some(record.account.as_str().into()));
    let client = record.client.as_deref();
    put("protocol", client.map(|client| client.protocol.into()));
    put("peer", client.map(|client| client.peer.to_string().into()));
    put("login", client.map(|client| client.login.as_str().into()));
    put("program", client.and_then(|client| client.program()).map(Value::from));
    put("mailbox", Some(record.mailbox.as_str().into()));
    put("to", record.to.as_deref().map(Value::from));
    put("uid_validity", record.uid_validity.map(|validity| validity.0.into()));
    put("uids", (!record.uids.is_empty()).then(|| record.uids.to_string().into()));
    put("left", (!record.left.is_empty()).then(|| record.left.to_string().into()));
    let ids = record.messages.iter().map(|(uid, id)| (uid.0.to_string(), Value::from(id.as_str())));
    put("message_ids", (!record.messages.is_empty()).then(|| Value::Object(ids.collect())));
    put("policy", record.policy.map(Value::from));
    put("reason", record.reason.as_deref().map(Value::from));
    let text = json!(fields).to_string();
    // JSON lets these through: DEL and the second set of control characters. All of them stand inside strings.
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    line
}

/// The files, and the one in use.
struct Files {
    dir: PathBuf,
    size: u64,
    count: u32,
    open: Option<(File, u64)>,
    /// The length at which the file in use is put away; more than `size` once that has failed.
    turn_at: u64,
    /// Why it was not put away when it should have been, until somebody has told.
    not_turned: Option<io::Error>,
}

impl Files {
    fn new(dir: &Path, size: u64, count: u32) -> Self {
        Self { dir: dir.to_owned(), size, count, open: None, turn_at: size, not_turned: None }
    }

    /// The `n`-th before the one in use, which is 0.
    fn path(&self, n: u32) -> PathBuf {
        self.dir.join(if n == 0 { "audit.jsonl".to_owned() } else { format!("audit.{n}.jsonl") })
    }

    /// Adds a line, whole or not at all.
    fn append(&mut self, line: &str) -> io::Result<()> {
        let more = line.len() as u64 + 1;
        let (mut file, mut length) = self.file()?;
        if length > 0 && length + more > self.turn_at {
            // Not every system renames what is open.
            drop(file);
            match self.turn() {
                Ok(()) => self.turn_at = self.size,
                Err(error) if length + more > self.size.saturating_mul(self.count.into()) => return Err(error),
                Err(error) => {
                    // Tried again when it has grown by another part: not for every line, and soon enough.
                    self.turn_at = length + more + self.size / PARTS;
                    self.not_turned = Some(error);
                }
            }
            (file, length) = self.file()?;
        }
        let written = file.write_all(format!("{line}\n").as_bytes());
        if let Err(error) = written {
            // Half a line would spoil the next one. If that fails too, opening it again sees to it.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.open = Some((file, length + more));
        Ok(())
    }

    /// The one in use and its length; to be put back.
    fn file(&mut self) -> io::Result<(File, u64)> {
        self.open.take().map_or_else(|| open(&self.dir, &self.path(0)), Ok)
    }

    /// Each file becomes an older one; the oldest goes.
    fn turn(&self) -> io::Result<()> {
        for n in (0..self.count.saturating_sub(1)).rev() {
            match std::fs::rename(self.path(n), self.path(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Opens the file in use for adding to it, and how long it is. A line that a crash has cut is ended.
fn open(dir: &Path, path: &Path) -> io::Result<(File, u64)> {
    make_private_dir(dir)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::engine::{Client, Outcome};
    use crate::model::{Uid, UidSet, UidValidity};

    fn record(mailbox: &str) -> Record {
        Record {
            at: SystemTime::UNIX_EPOCH,
            action: "expunge",
            account: "ann@example.org".into(),
            client: Some(Arc::new(Client::new("imap", "127.0.0.1".parse().unwrap(), "ann@example.org"))),
            mailbox: mailbox.into(),
            to: None,
            uid_validity: Some(UidValidity(7)),
            uids: [3, 4, 5, 9].into_iter().collect(),
            left: UidSet::new(),
            messages: vec![(Uid(3), "<a@b>".into())],
            policy: None,
            outcome: Outcome::Ok,
            reason: None,
        }
    }

    fn read(path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_record_is_one_line() {
        let want = r#"{"account":"ann@example.org","action":"expunge","login":"ann@example.org","mailbox":"INBOX","message_ids":{"3":"<a@b>"},"outcome":"ok","peer":"127.0.0.1","protocol":"imap","time":"1970-01-01T00:00:00Z","uid_validity":7,"uids":"3:5,9"}"#;
        let plain = line(&record("INBOX"));
        let (plain, want): (Value, Value) =
            (serde_json::from_str(&plain).unwrap(), serde_json::from_str(want).unwrap());
        assert_eq!(plain, want);
        let name = "a\r\n\u{1b}[2J\u{7f}\u{9b}2J\u{2028}\u{e4}\"";
        let nasty = line(&record(name));
        assert!(!nasty.chars().any(|c| c.is_control() || c == '\u{2028}') && nasty.contains('\u{e4}'), "{nasty}");
        let read: Value = serde_json::from_str(&nasty).unwrap();
        assert_eq!(read["mailbox"], name);
    }

    #[test]
    fn files_turn_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("audit");
        let mut files = Files::new(&dir, 10, 3);
        for n in 0..9 {
            files.append(&format!("line{n}")).unwrap();
        }
        let shown: Vec<String> = (0..3).map(|n| read(files.path(n))).collect();
        assert_eq!(shown, ["line8\n", "line7\n", "line6\n"]);
        assert!(!files.path(3).exists());
        // Opened again, it goes on; a line cut by a crash is ended, a single one above the size has its place.
        std::fs::write(files.path(0), "li").unwrap();
        let mut again = Files::new(&dir, 10, 3);
        again.append("line9").unwrap();
        assert_eq!(read(again.path(0)), "li\nline9\n");
        again.append(&"x".repeat(99)).unwrap();
        assert_eq!((read(again.path(1)), read(again.path(0)).len()), ("li\nline9\n".into(), 100));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&dir), mode(&again.path(0))), (0o700, 0o600));
        }
    }

    #[test]
    fn a_file_that_cannot_be_put_away_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("audit");
        let mut files = Files::new(&dir, 64, 2);
        // Where the older file would be, there is a directory with something in it: no rename replaces that.
        let in_the_way = files.path(1);
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        let line = |n: u32| format!("line {n:02}");
        let mut told = 0;
        for n in 0..16 {
            files.append(&line(n)).unwrap();
            told += u32::from(files.not_turned.take().is_some());
        }
        // 8 octets a line: full after 8, then tried again with every second one.
        assert_eq!(told, 4, "not for every line, and not never");
        assert_eq!(read(files.path(0)).lines().count(), 16, "nothing is lost");
        // All that the files together may take: here it ends, with a word for each record.
        assert!(files.append(&line(16)).is_err() && files.append(&line(17)).is_err());
        assert_eq!(read(files.path(0)).lines().count(), 16);
        std::fs::remove_dir_all(&in_the_way).unwrap();
        files.append(&line(18)).unwrap();
        assert_eq!((read(files.path(1)).lines().count(), read(files.path(0)).as_str()), (16, "line 18\n"));
        // And from there as ever.
        (19..27).for_each(|n| files.append(&line(n)).unwrap());
        assert_eq!((read(files.path(1)).lines().count(), read(files.path(0)).as_str()), (8, "line 26\n"));
        assert!(files.not_turned.is_none());
    }

    #[test]
    fn what_cannot_be_written_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::default();
        // Where the directory would be, there is a file.
        std::fs::write(dir.path().join(DIR), "").unwrap();
        let trail = Trail::open(&config::Log::default(), dir.path(), &metrics);
        (0..3).for_each(|_| trail.record(record("INBOX")));
        trail.close();
        let text = metrics.encode_plain();
        assert!(text.contains("mailweir_audit_errors_total 3\n"), "{text}");
        assert!(text.contains("mailweir_audit_records_total{action=\"expunge\",outcome=\"ok\"} 3\n"), "{text}");
        // It is there again, and what comes then is kept.
        std::fs::remove_file(dir.path().join(DIR)).unwrap();
        let trail = Trail::open(&config::Log::default(), dir.path(), &metrics);
        trail.record(record("INBOX"));
        trail.close();
        assert_eq!(read(dir.path().join(DIR).join("audit.jsonl")).lines().count(), 1);
    }
}
