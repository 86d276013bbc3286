//! Whether a message may be handed to the provider today: asked before the server is, at the place every message passes.
//!
//! Providers count messages and their recipients by the day and block who sends more; at some every further attempt begins the block anew. So
//! what is too much is refused here, without a word to the server: the session at MAIL, a recipient at RCPT, the message at DATA, each in its
//! turn among the server's own replies.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Refusal, Reply};

/// An account's count of what it sends. The errors are answers for who sends.
pub trait Postage: Send + Sync {
    /// Whether one more message to so many recipients may be sent.
    fn room(&self, _recipients: u64) -> Result<(), Reply> {
        Ok(())
    }

    /// Counts it, so that no crash forgets it, before it is handed over.
    fn take(&self, _recipients: u64) -> BoxFuture<'_, Result<(), Reply>> {
        std::future::ready(Ok(())).boxed()
    }

    /// What was counted was certainly not sent: the server has refused it, or was lost before the message's end.
    fn give_back(&self, _recipients: u64) {}

    /// The provider says that the day is spent, in these words.
    fn spent(&self, _reply: &Reply) {}
}

/// No limit.
impl Postage for () {}

/// The end of a message in dotted lines.
const END: &[u8] = b"\r\n.\r\n";

fn is_spent(reply: &Reply) -> bool {
    Refusal::of(reply) == Some(Refusal::DailyLimit)
}

/// Whose reply is next.
enum Next {
    /// To a recipient, by the server.
    Recipient,
    /// To something else, by the server.
    Other,
    Ours(Reply),
}

/// One transaction's part of the day.
pub(super) struct Stamps {
    postage: Arc<dyn Postage>,
    next: VecDeque<Next>,
    /// Recipients taken by the server, and asked for.
    taken: u64,
    asked: u64,
    /// Recipients of a message that was counted, and whose end the server may yet take.
    counted: Option<u64>,
    /// The last octets written of it.
    tail: Vec<u8>,
}

impl Stamps {
    pub(super) fn new(postage: &Arc<dyn Postage>) -> Self {
        Self {
            postage: Arc::clone(postage),
            next: VecDeque::new(),
            taken: 0,
            asked: 0,
            counted: None,
            tail: Vec::new(),
        }
    }

    /// Whether this command goes to the server. What does not is answered in its turn.
    pub(super) async fn passes(&mut self, line: &str) -> bool {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "RCPT" => self.postage.room(self.taken + self.asked + 1).err(),
            "DATA" => {
                let taken = self.postage.take(self.taken).await;
                if taken.is_ok() {
                    (self.counted, self.tail) = (Some(self.taken), b"\r\n".to_vec());
                }
                taken.err()
            }
            _ => None,
        };
        let passes = answer.is_none();
        self.next.push_back(match answer {
            Some(reply) => Next::Ours(reply),
            None if verb == "RCPT" => {
                self.asked += 1;
                Next::Recipient
            }
            None => Next::Other,
        });
        passes
    }

    /// The next reply, where it is ours.
    pub(super) fn ours(&mut self) -> Option<Reply> {
        let Some(Next::Ours(reply)) = self.next.front() else { return None };
        let reply = reply.clone();
        self.next.pop_front();
        Some(reply)
    }

    /// The server's reply to what stands first.
    pub(super) fn heard(&mut self, reply: &Reply) {
        if let Some(Next::Recipient) = self.next.pop_front() {
            self.asked = self.asked.saturating_sub(1);
            self.taken += u64::from(reply.is_positive());
        }
        // Nothing but DATA and the message is answered once it is counted.
        if reply.code >= 400 {
            self.give_back();
        }
        if is_spent(reply) {
            self.postage.spent(reply);
        }
    }

    /// Octets of the message are about to be written.
    pub(super) fn writes(&mut self, dotted: &[u8]) {
        self.tail.extend(dotted.get(dotted.len().saturating_sub(END.len())..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(END.len()));
    }

    fn give_back(&mut self) {
        if let Some(recipients) = self.counted.take() {
            self.postage.give_back(recipients);
        }
    }
}

impl Drop for Stamps {
    /// Whatever has happened: without its end no server has taken the message.
    fn drop(&mut self) {
        if self.tail != END {
            self.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Three recipients a message, and what was taken, heard and given back.
    #[derive(Default)]
    struct Three(Mutex<(Vec<u64>, Vec<String>, Vec<u64>)>);

    impl Postage for Three {
        fn room(&self, recipients: u64) -> Result<(), Reply> {
            if recipients <= 3 { Ok(()) } else { Err(Reply::new(452, "4.5.3", "three")) }
        }

        fn take(&self, recipients: u64) -> BoxFuture<'_, Result<(), Reply>> {
            self.0.lock().unwrap().0.push(recipients);
            std::future::ready(self.room(recipients)).boxed()
        }

        fn give_back(&self, recipients: u64) {
            self.0.lock().unwrap().2.push(recipients);
        }

        fn spent(&self, reply: &Reply) {
            self.0.lock().unwrap().1.push(reply.text());
        }
    }

    #[tokio::test]
    async fn what_is_too_much_is_answered_in_its_turn() {
        let three = Arc::new(Three::default());
        let postage: Arc<dyn Postage> = Arc::<Three>::clone(&three);
        let mut stamps = Stamps::new(&postage);
        assert!(stamps.passes("MAIL FROM:<a@b>").await);
        let ok = Reply::new(250, "2.1.5", "ok");
        stamps.heard(&ok);
        let mut passed = Vec::new();
        for _ in 0..5 {
            passed.push(stamps.passes("RCPT TO:<x@y>").await);
        }
        assert_eq!(passed, [true, true, true, false, false]);
        for reply in [&ok, &Reply::new(550, "5.1.1", "no such"), &ok] {
            assert!(stamps.ours().is_none(), "the server's come first");
            stamps.heard(reply);
        }
        assert_eq!([stamps.ours().unwrap().code, stamps.ours().unwrap().code], [452, 452]);
        assert!(stamps.ours().is_none());
        assert!(stamps.passes("RCPT TO:<x@y>").await, "one of the three was not taken");
        stamps.heard(&ok);
        assert!(stamps.passes("data").await);
        assert_eq!(three.0.lock().unwrap().0, [3]);
    }

    #[tokio::test]
    async fn what_was_certainly_not_sent_is_given_back() {
        let (no, go_on, ok) = (Reply::new(451, "4.3.0", "x"), Reply::new(354, "", "go on"), Reply::new(250, "", "ok"));
        // Pieces of the message, and the replies to DATA and to it.
        let table: [(&[&str], &[&Reply], bool); 8] = [
            (&["a\r\n", ".\r\n"], &[&go_on, &ok], false),
            (&["a\r\n.\r\n"], &[&go_on, &no], true),
            (&["a\r\n.\r\n"], &[&go_on], false),
            (&["a\r", "\n.", "\r\n"], &[&go_on], false),
            (&[".\r\n"], &[&go_on], false),
            (&["a\r\n", "..\r\n"], &[&go_on], true),
            (&["a\r\n.\r\nb"], &[&go_on], true),
            (&[], &[&no], true),
        ];
        for (pieces, replies, is_back) in table {
            let three = Arc::new(Three::default());
            let postage: Arc<dyn Postage> = Arc::<Three>::clone(&three);
            let mut stamps = Stamps::new(&postage);
            assert!(stamps.passes("RCPT TO:<x@y>").await);
            stamps.heard(&ok);
            assert!(stamps.passes("DATA").await);
            stamps.heard(replies[0]);
            for piece in pieces {
                stamps.writes(piece.as_bytes());
            }
            if let Some(verdict) = replies.get(1) {
                stamps.heard(verdict);
            }
            drop(stamps);
            let back: &[u64] = if is_back { &[1] } else { &[] };
            assert_eq!(three.0.lock().unwrap().2, back, "{pieces:?} {replies:?}");
        }
    }

    #[test]
    fn the_words_for_a_spent_day() {
        let table = [
            (550, "5.4.5", "Daily user sending limit exceeded.", true),
            (550, "5.4.5", "Daily user sending quota exceeded", true),
            (451, "", "Too many messages today", true),
            (432, "4.3.2", "Too many messages in a minute", false),
            (550, "5.4.6", "You have reached a limit for sending mail.", true),
            (451, "4.7.1", "Recipients per day limit reached", true),
            (554, "5.7.1", "[2] Message rejected under suspicion of SPAM", false),
            (452, "4.2.2", "The recipient's inbox is over quota", false),
            (250, "2.0.0", "5.4.5 is no refusal here", false),
        ];
        for (code, enhanced, text, want) in table {
            assert_eq!(is_spent(&Reply::new(code, enhanced, text)), want, "{text}");
        }
    }
}
