//! One try to send a kept message: the envelope anew, the file, the lone dot, the answer.

use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::entry::Send;
use super::passage::{hangs_up, is_for_now};
use crate::upstream::smtp::{Extensions, Lost, Passage, Refusal, Reply};
use crate::wire::smtp::{Mail, Rcpt};

/// Octets read and sent at once.
const PIECE: usize = 64 << 10;
/// Recipients named before their answers are read: below what fills a socket's buffers both ways.
const MOST_PENDING: usize = 50;
/// The end of a message.
const DOT: &[u8] = b".\r\n";

/// What has become of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent(Reply),
    /// Put off by the provider.
    Later(Reply),
    /// Put off because the provider takes nothing from the account for so long.
    Blocked(Reply, Duration),
    /// It could not be asked; in our words.
    Lost(String),
    /// Refused for good.
    Failed(Reply),
    /// The dot was sent, and no answer came.
    Doubt(String),
}

/// Writes down that the dot is about to be sent to these (by their places); the error, that it must not be.
pub(super) trait Journal {
    fn about_to_send(&mut self, taken: &[usize]) -> impl Future<Output = Result<(), String>> + std::marker::Send;
}

/// Sends a message, `trace` before it; the fate of each recipient in their order. `None`: it was taken away before the dot, and nothing was sent.
pub(super) async fn run(
    mut passage: Passage,
    send: &Send,
    (file, octets): (&Path, u64),
    trace: &str,
    journal: &mut impl Journal,
) -> Option<Vec<Fate>> {
    let count = send.recipients.len();
    let all = |fate: Fate| Some(vec![fate; count]);
    let offers = passage.offers().cloned().unwrap_or_default();
    let mail = send.envelope();
    if mail.utf8 && !offers.utf8 {
        passage.rest(true).await;
        return all(Fate::Failed(Reply::new(550, "5.6.7", "The provider takes no such addresses (SMTPUTF8)")));
    }
    match exchange(&mut passage, &mail_line(&mail, octets, &offers)).await {
        Ok(reply) if reply.is_positive() => {}
        Ok(reply) => {
            end(passage, &reply).await;
            return all(judged(reply));
        }
        Err(lost) => return all(not_reached(&lost)),
    }
    let mut fates = match name_recipients(&mut passage, send, &offers).await {
        Ok(fates) => fates,
        Err(lost) => return all(not_reached(&lost)),
    };
    let blocked = fates.iter().flatten().any(|fate| matches!(fate, Fate::Blocked(..)));
    let taken: Vec<usize> = fates.iter().enumerate().filter(|(_, fate)| fate.is_none()).map(|(n, _)| n).collect();
    if taken.is_empty() || blocked {
        passage.rest(false).await;
        return Some(settled(fates, &Fate::Lost("the provider blocks the account".into())));
    }
    let verdict = message(passage, (file, octets), trace, &taken, journal).await?;
    Some(settled(std::mem::take(&mut fates), &verdict))
}

/// Those that were taken share the message's fate.
fn settled(fates: Vec<Option<Fate>>, verdict: &Fate) -> Vec<Fate> {
    fates.into_iter().map(|fate| fate.unwrap_or_else(|| verdict.clone())).collect()
}

async fn exchange(passage: &mut Passage, line: &str) -> Result<Reply, Lost> {
    passage.send(line).await?;
    passage.reply().await
}

/// Gives a session back whose transaction was refused.
async fn end(passage: Passage, reply: &Reply) {
    if !is_for_now(reply) || !hangs_up(reply) {
        passage.rest(false).await;
    }
}

/// What was refused, and nothing for whom the server has taken.
async fn name_recipients(passage: &mut Passage, send: &Send, offers: &Extensions) -> Result<Vec<Option<Fate>>, Lost> {
    let mut fates = Vec::new();
    let batch = if offers.pipelining { MOST_PENDING } else { 1 };
    for batch in send.recipients.chunks(batch) {
        let mut asked = Vec::new();
        for recipient in batch {
            let line = recipient.parsed().filter(|rcpt| rcpt.to.is_ascii() || offers.utf8);
            let line = line.map(|rcpt| rcpt_line(&rcpt, offers));
            if let Some(line) = &line {
                passage.send(line).await?;
            }
            asked.push(line.is_some());
        }
        for was_asked in asked {
            if !was_asked {
                fates.push(Some(Fate::Failed(Reply::new(
                    553,
                    "5.6.7",
                    "The provider takes no such address (SMTPUTF8)",
                ))));
                continue;
            }
            let reply = passage.reply().await?;
            fates.push(if reply.is_positive() { None } else { Some(judged_of_recipient(reply)) });
        }
    }
    Ok(fates)
}

async fn message(
    mut passage: Passage,
    (file, octets): (&Path, u64),
    trace: &str,
    taken: &[usize],
    journal: &mut impl Journal,
) -> Option<Fate> {
    match exchange(&mut passage, "DATA").await {
        Ok(reply) if reply.code == 354 => {}
        Ok(reply) => {
            end(passage, &reply).await;
            return Some(judged(reply));
        }
        Err(lost) => return Some(not_reached(&lost)),
    }
    if let Err(lost) = passage.write(trace.as_bytes()).await {
        return Some(
            passage.last_words().await.filter(|reply| reply.code >= 400).map_or_else(|| not_reached(&lost), judged),
        );
    }
    if let Err(fate) = body(&mut passage, file, octets).await {
        return Some(fate);
    }
    if let Err(words) = journal.about_to_send(taken).await {
        tracing::info!("a message that was about to be sent is not: {words}");
        return None;
    }
    let verdict = match passage.write(DOT).await {
        Ok(()) => passage.verdict().await,
        Err(lost) => match passage.last_words().await {
            Some(reply) if reply.code >= 400 || !passage.is_unsent() => Ok(reply),
            // Whatever it said was said before the dot, which was not sent.
            _ if passage.is_unsent() => return Some(not_reached(&lost)),
            _ => Err(lost),
        },
    };
    Some(match verdict {
        Ok(reply) if reply.is_positive() => {
            passage.rest(true).await;
            Fate::Sent(reply)
        }
        Ok(reply) => {
            end(passage, &reply).await;
            judged(reply)
        }
        Err(lost) => Fate::Doubt(lost.to_string()),
    })
}

/// All but the lone dot.
async fn body(passage: &mut Passage, path: &Path, octets: u64) -> Result<(), Fate> {
    let unreadable = |words: String| {
        tracing::error!(file = %path.display(), "a message of the outbox cannot be read: {words}");
        Fate::Lost(format!("its file cannot be read: {words}"))
    };
    let mut file = File::open(path).await.map_err(|error| unreadable(error.to_string()))?;
    let length = file.metadata().await.map_err(|error| unreadable(error.to_string()))?.len();
    if length != octets || length < DOT.len() as u64 {
        return Err(unreadable(format!("it has {length} octets, and should have {octets}")));
    }
    let mut left = length - DOT.len() as u64;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let space = piece.get_mut(..most).unwrap_or_default();
        let count = file.read(space).await.map_err(|error| unreadable(error.to_string()))?;
        if count == 0 {
            return Err(unreadable("it ends early".into()));
        }
        left -= count as u64;
        if let Err(lost) = passage.write(piece.get(..count).unwrap_or_default()).await {
            // Servers that have enough say why, and hang up. Without the dot nothing was sent.
            let said = passage.last_words().await.filter(|reply| reply.code >= 400);
            return Err(said.map_or_else(|| not_reached(&lost), judged));
        }
    }
    let mut dot = Vec::new();
    file.read_to_end(&mut dot).await.map_err(|error| unreadable(error.to_string()))?;
    if dot == DOT { Ok(()) } else { Err(unreadable("it has no end".into())) }
}

/// What is said of the account is no reason to give a message up.
fn judged(reply: Reply) -> Fate {
    let block = Refusal::block(&reply);
    judged_by(reply, block)
}

/// An answer to RCPT.
fn judged_of_recipient(reply: Reply) -> Fate {
    let block = Refusal::block_at_recipient(&reply);
    judged_by(reply, block)
}

fn judged_by(reply: Reply, block: Option<Duration>) -> Fate {
    if let Some(length) = block {
        Fate::Blocked(reply, length)
    } else if is_for_now(&reply) {
        Fate::Later(reply)
    } else if reply.is_permanent() {
        Fate::Failed(reply)
    } else {
        Fate::Lost(format!("the provider answers out of turn ({})", reply.code))
    }
}

fn not_reached(lost: &Lost) -> Fate {
    Fate::Lost(format!("the connection to the provider was lost: {lost}"))
}

/// MAIL for what the provider can now; it may have changed since the message came.
fn mail_line(mail: &Mail, octets: u64, offers: &Extensions) -> String {
    let from = mail.from.as_ref().map_or("", |from| from.as_str());
    let mut line = format!("MAIL FROM:<{from}>");
    let size = offers.sizes.then(|| format!(" SIZE={octets}"));
    let eight = (mail.eight_bit && offers.eight_bit).then(|| " BODY=8BITMIME".to_owned());
    let utf8 = mail.utf8.then(|| " SMTPUTF8".to_owned());
    let ret = mail.ret.as_ref().filter(|_| offers.dsn).map(|ret| format!(" RET={ret}"));
    let envid = mail.envid.as_ref().filter(|_| offers.dsn).map(|envid| format!(" ENVID={envid}"));
    line.extend([size, eight, utf8, ret, envid].into_iter().flatten());
    line
}

fn rcpt_line(rcpt: &Rcpt, offers: &Extensions) -> String {
    let mut line = format!("RCPT TO:<{}>", rcpt.to);
    let notify = rcpt.notify.as_ref().filter(|_| offers.dsn).map(|notify| format!(" NOTIFY={notify}"));
    let orcpt = rcpt.orcpt.as_ref().filter(|_| offers.dsn).map(|orcpt| format!(" ORCPT={orcpt}"));
    line.extend([notify, orcpt].into_iter().flatten());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::outbox::entry::Recipient;

    #[test]
    fn envelopes_are_kept_as_far_as_the_provider_can() {
        let send = Send {
            mail: "MAIL FROM:<ann@example.org> SIZE=7 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ1".into(),
            ..Send::default()
        };
        let to = Recipient::new("RCPT TO:<bob@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@x".into(), false, None);
        let all = Extensions { eight_bit: true, utf8: true, dsn: true, sizes: true, ..Extensions::default() };
        assert_eq!(
            mail_line(&send.envelope(), 99, &all),
            "MAIL FROM:<ann@example.org> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ1"
        );
        let rcpt = to.parsed().unwrap();
        assert_eq!(rcpt_line(&rcpt, &all), to.rcpt);
        let none = Extensions::default();
        assert_eq!(mail_line(&send.envelope(), 99, &none), "MAIL FROM:<ann@example.org> SMTPUTF8");
        assert_eq!(rcpt_line(&rcpt, &none), "RCPT TO:<bob@example.net>");
    }

    #[test]
    fn what_a_refusal_decides() {
        let later = |code, text: &str| !matches!(judged(Reply::new(code, "", text)), Fate::Failed(_));
        assert!(later(451, "greylisted") && later(421, "bye") && later(530, "log in") && later(354, "?"));
        assert!(later(550, "Daily user sending limit exceeded"), "waited out");
        assert!(matches!(judged_of_recipient(Reply::new(550, "", "account is disabled")), Fate::Failed(_)));
        assert!(matches!(judged_of_recipient(Reply::new(450, "", "account is disabled")), Fate::Later(_)));
        assert!(!later(550, "no such user") && !later(554, "spam message rejected"));
    }
}
