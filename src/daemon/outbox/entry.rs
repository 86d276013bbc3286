//! What stands in a row of the outbox. The layout may be added to, never changed: rows outlive the program that wrote them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::state::{OutboxItem, OutboxRow};
use crate::wire::smtp::{self, Command, Mail, Rcpt, Reply};

const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    version: u32,
    /// The file with the message, in the account's directory: as DATA sends it, the lone dot included; or, to be filed, as it is.
    pub(crate) file: String,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum What {
    /// To be sent.
    Send(Send),
    /// To be stored over IMAP.
    File(File),
}

/// A message to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Send {
    /// The envelope in the words of SMTP: `MAIL FROM:<…> …`.
    pub(crate) mail: String,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) message_id: Option<String>,
    #[serde(default)]
    pub(crate) tries: u32,
    /// When the lone dot was sent, to whoever is in doubt; seconds since the epoch.
    #[serde(default)]
    pub(crate) dot: u64,
    /// Looks for a copy since then.
    #[serde(default)]
    pub(crate) looks: u32,
    /// The sender was told that it waits.
    #[serde(default)]
    pub(crate) told_delay: bool,
    /// Nobody is told what becomes of it (a copy for the archive).
    #[serde(default)]
    pub(crate) silent: bool,
    /// What stood in the way last, in words.
    #[serde(default)]
    pub(crate) last: Option<String>,
    /// What tells a copy of the transaction in doubt from all others: it stands in a trace header that was sent in no other one.
    #[serde(default)]
    pub(crate) trace: Option<String>,
    /// Doubts that nothing has settled.
    #[serde(default)]
    pub(crate) doubts: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipient {
    /// `RCPT TO:<…> …`.
    pub(crate) rcpt: String,
    /// The lone dot was sent and no answer has come.
    #[serde(default)]
    pub(crate) doubt: bool,
    /// The provider's last reply about it.
    #[serde(default)]
    pub(crate) said: Option<String>,
}

/// A message to be stored over IMAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) to: Folder,
    pub(crate) message_id: Option<String>,
    /// As DATA sends it, with our trace header.
    pub(crate) dotted: bool,
    /// A try was begun that may have stored it.
    #[serde(default)]
    pub(crate) begun: bool,
    #[serde(default)]
    pub(crate) tries: u32,
    #[serde(default)]
    pub(crate) last: Option<String>,
    /// A mail program's own copy of the message in this row: stored when that is gone, and nobody else has.
    #[serde(default)]
    pub(crate) after: Option<i64>,
    /// So often it is looked for once more before it is stored.
    #[serde(default)]
    pub(crate) looks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Folder {
    Inbox,
    Sent,
}

impl Entry {
    pub(crate) fn new(file: String, what: What) -> Self {
        Self { version: VERSION, file, what }
    }

    /// `None`: a newer version of this program has written it, or it cannot be read. It is left alone.
    pub(crate) fn read(row: &OutboxRow) -> Option<Self> {
        serde_json::from_slice::<Self>(&row.item.payload).ok().filter(|entry| entry.version <= VERSION)
    }

    /// As a row, with `octets` that count against the limit.
    pub(crate) fn item(&self, due: SystemTime, created: SystemTime, octets: u64) -> OutboxItem {
        // Text and numbers: this serialises always.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        OutboxItem { due, created, octets, payload }
    }

    /// What stood in the way last.
    pub(crate) fn last(&self) -> Option<&str> {
        match &self.what {
            What::Send(send) => send.last.as_deref(),
            What::File(file) => file.last.as_deref(),
        }
    }

    pub(crate) fn tries(&self) -> u32 {
        match &self.what {
            What::Send(send) => send.tries,
            What::File(file) => file.tries,
        }
    }
}

impl File {
    pub(crate) fn new(to: Folder, message_id: Option<String>, dotted: bool) -> Self {
        Self { to, message_id, dotted, begun: false, tries: 0, last: None, after: None, looks: 0 }
    }

    /// For people.
    pub(crate) fn kind(&self) -> &'static str {
        match self.to {
            Folder::Inbox => "notification",
            Folder::Sent => "copy",
        }
    }
}

impl Send {
    /// The envelope's beginning. It was read once before it was written down.
    pub(crate) fn envelope(&self) -> Mail {
        match smtp::command(self.mail.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            _ => Mail::default(),
        }
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.recipients.iter().any(|recipient| recipient.doubt)
    }

    pub(crate) fn dot(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.dot)
    }
}

impl Recipient {
    pub(crate) fn new(rcpt: String, doubt: bool, said: Option<&Reply>) -> Self {
        Self { rcpt, doubt, said: said.map(told) }
    }

    pub(crate) fn parsed(&self) -> Option<Rcpt> {
        match smtp::command(self.rcpt.as_bytes()) {
            Ok(Command::Rcpt(rcpt)) => Some(rcpt),
            _ => None,
        }
    }

    /// For people.
    pub(crate) fn address(&self) -> String {
        self.parsed().map_or_else(|| self.rcpt.clone(), |rcpt| rcpt.to.to_string())
    }

    /// Whether its NOTIFY asks for a word about this (RFC 3461 §4.1); without one, about failures.
    pub(crate) fn wants(&self, what: &str) -> bool {
        match self.parsed().and_then(|rcpt| rcpt.notify) {
            Some(notify) => notify.split(',').any(|word| word.eq_ignore_ascii_case(what)),
            None => what == "FAILURE",
        }
    }
}

/// A reply on one line.
pub(crate) fn told(reply: &Reply) -> String {
    let enhanced = reply.enhanced.as_deref().map(|code| format!("{code} ")).unwrap_or_default();
    let text: String = reply.text().chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
    format!("{} {enhanced}{text}", reply.code).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in outboxes out there.
    #[test]
    fn the_layout_stays() {
        let send = Send {
            mail: "MAIL FROM:<ann@example.org> BODY=8BITMIME RET=HDRS".into(),
            recipients: vec![
                Recipient { rcpt: "RCPT TO:<bob@example.net> NOTIFY=NEVER".into(), doubt: true, said: None },
                Recipient::new("RCPT TO:<carl@example.net>".into(), false, Some(&Reply::new(451, "4.7.1", "later"))),
            ],
            message_id: Some("<1@x>".into()),
            tries: 2,
            dot: 7,
            ..Send::default()
        };
        let entry = Entry::new("a.eml".into(), What::Send(send.clone()));
        let text = r#"{"version":1,"file":"a.eml","what":"send","mail":"MAIL FROM:<ann@example.org> BODY=8BITMIME RET=HDRS","recipients":[{"rcpt":"RCPT TO:<bob@example.net> NOTIFY=NEVER","doubt":true,"said":null},{"rcpt":"RCPT TO:<carl@example.net>","doubt":false,"said":"451 4.7.1 later"}],"message_id":"<1@x>","tries":2,"dot":7,"looks":0,"told_delay":false,"silent":false,"last":null,"trace":null,"doubts":0}"#;
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        let row = |payload: &str| OutboxRow {
            id: 1,
            account: "ann".into(),
            item: OutboxItem {
                due: SystemTime::UNIX_EPOCH,
                created: SystemTime::UNIX_EPOCH,
                octets: 1,
                payload: payload.into(),
            },
        };
        assert_eq!(Entry::read(&row(text)), Some(entry));
        assert!(Entry::read(&row(&text.replace(",\"doubts\":0", ""))).is_some(), "as it was written before");
        let file = r#"{"version":1,"file":"b","what":"file","to":"inbox","message_id":null,"dotted":false}"#;
        assert!(matches!(Entry::read(&row(file)), Some(Entry { what: What::File(_), .. })));
        assert_eq!(Entry::read(&row(&text.replace("\"version\":1", "\"version\":2"))), None);
        assert_eq!(Entry::read(&row("{}")), None);
        assert!(send.envelope().eight_bit && send.is_in_doubt());
        let wants = |n: usize| ["FAILURE", "DELAY"].map(|what| send.recipients[n].wants(what));
        assert_eq!((wants(0), wants(1)), ([false, false], [true, false]));
    }
}
