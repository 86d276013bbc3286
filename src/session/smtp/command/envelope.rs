//! MAIL and RCPT: whose message it is and for whom. The provider answers; what is ours to refuse is refused before it is asked.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::session::line::Stop;
use crate::session::smtp::state::{Failure, Session, Transaction, Way, heard, largest, lost, too_large};
use crate::session::smtp::{Login, Outgoing as _, Passage as _};
use crate::wire::smtp::{Extensions, Mail, Rcpt, Reply};

/// Recipients of one message. Providers take 100 to 500 (reference: providers); RFC 5321 §4.5.3.1.8 wants 100 at least.
const MOST_RECIPIENTS: usize = 1000;
/// How long MAIL may take, a session at the provider opened for it: below what mail programs wait.
const OPEN_TIMEOUT: Duration = Duration::from_secs(45);
/// Recipients sent on without waiting for their answers: below what fills a socket's buffers both ways.
const MOST_PENDING: usize = 50;

impl<L: Login> Session<L> {
    pub(super) async fn mail(&mut self, mail: Mail) -> Result<Reply, Failure> {
        let Some(outgoing) = self.outgoing.clone() else {
            return Err(Reply::new(530, "5.7.0", "Log in first").into());
        };
        if self.mail.is_some() {
            return Err(Reply::new(503, "5.5.1", "A message is under way already").into());
        }
        if let Some(from) = &mail.from
            && !outgoing.is_own(from.as_str())
        {
            let words = format!("{from} is not an address of this account; add it to `aliases` if it is yours");
            return Err(Reply::new(553, "5.7.1", words).into());
        }
        let limit = largest(&outgoing.offers());
        if mail.size.is_some_and(|size| size > limit) {
            return Err(too_large(limit).into());
        }
        // What a client that does not say may send is seen as it goes.
        let granted = mail.size.unwrap_or_default().max(1);
        let grant = outgoing.admit(granted)?;
        let work = timeout(OPEN_TIMEOUT, async {
            let mut passage = outgoing.open(mail.size.unwrap_or_default()).await?;
            let line = match mail_line(&mail, &outgoing.offers()) {
                Ok(line) => line,
                Err(refusal) => {
                    passage.rest(true).await;
                    return Err(refusal);
                }
            };
            passage.send(line).await.map_err(|words| lost(&words))?;
            let reply = passage.reply().await.map_err(|words| lost(&words))?;
            Ok((passage, heard(reply)?))
        });
        let asked = self.io.wait_while_here(work, has_message);
        let words = "The provider takes too long to answer";
        let (passage, reply) = asked.await?.unwrap_or_else(|_| Err(Reply::new(451, "4.4.1", words)))?;
        if reply.is_positive() {
            let way = Way::Envelope(passage);
            self.mail =
                Some(Box::new(Transaction { way, recipients: 0, pending: 0, moved: Instant::now(), grant, granted }));
        } else {
            self.io.wait(passage.rest(false)).await?;
        }
        Ok(reply)
    }

    /// Sends a recipient on. Where the next line of the client is here already, the answer waits for it.
    pub(super) async fn rcpt(&mut self, rcpt: Rcpt) -> Result<Option<Reply>, Failure> {
        let offers = self.outgoing.as_ref().map(|outgoing| outgoing.offers()).unwrap_or_default();
        let refusal = match self.mail.as_deref() {
            None => Some(Reply::new(503, "5.5.1", "MAIL comes first")),
            Some(mail) if matches!(mail.way, Way::Message(_)) => {
                Some(Reply::new(503, "5.5.1", "The message has begun"))
            }
            Some(mail) if mail.recipients + mail.pending >= MOST_RECIPIENTS => {
                Some(Reply::new(452, "4.5.3", format!("A message goes to {MOST_RECIPIENTS} recipients at most")))
            }
            _ => None,
        };
        let line = match refusal.map_or_else(|| rcpt_line(&rcpt, &offers), Err) {
            Ok(line) => line,
            Err(refusal) => {
                // In the order of the commands.
                self.answer_recipients().await?;
                return Err(refusal.into());
            }
        };
        let Some(mail) = self.mail.as_deref_mut() else { return Ok(None) };
        mail.pending += 1;
        mail.moved = Instant::now();
        let mut waits = true;
        if let Way::Envelope(passage) = &mut mail.way {
            waits = !passage.pipelines() || mail.pending >= MOST_PENDING;
            if let Err(words) = self.io.wait(passage.send(line)).await? {
                mail.way = Way::Lost(lost(&words));
            }
        }
        if waits || !self.io.has_line() {
            self.answer_recipients().await?;
        }
        Ok(None)
    }

    /// Gives back what an open transaction keeps from others, because nothing more comes of it.
    pub(crate) async fn let_go(&mut self) -> Result<(), Stop> {
        let Some(mail) = self.mail.as_deref_mut() else { return Ok(()) };
        let words = Way::Lost(Reply::new(451, "4.4.2", "Too long without a command: begin the message again"));
        let way = std::mem::replace(&mut mail.way, words);
        mail.grant = Box::new(());
        if let Way::Envelope(passage) = way {
            self.io.wait(passage.rest(false)).await?;
        }
        Ok(())
    }

    /// Answers the recipients that were sent on.
    pub(crate) async fn answer_recipients(&mut self) -> Result<(), Stop> {
        let Some(mail) = self.mail.as_deref_mut() else { return Ok(()) };
        while mail.pending > 0 {
            let reply = match &mut mail.way {
                Way::Envelope(passage) => {
                    let reply = self.io.wait_while_here(passage.reply(), has_message).await?;
                    match reply.map_err(|words| lost(&words)).and_then(heard) {
                        Ok(reply) => reply,
                        Err(reply) => {
                            mail.way = Way::Lost(reply);
                            continue;
                        }
                    }
                }
                Way::Lost(reply) => reply.clone(),
                Way::Message(_) => Reply::new(503, "5.5.1", "The message has begun"),
            };
            mail.pending -= 1;
            mail.moved = Instant::now();
            mail.recipients += usize::from(reply.is_positive());
            reply.render(&mut self.io.out);
        }
        Ok(())
    }
}

/// Whether what a client has sent ahead may hold a message to its end: a lone dot, or a last piece. One that has sent less and is gone
/// sends nothing more (RFC 5321 §3.8: as after RSET).
fn has_message(ahead: &[u8]) -> bool {
    let lines = ahead.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.into_iter().any(|line| {
        line == b"."
            || line.len() > 4
                && line.to_ascii_uppercase().starts_with(b"BDAT")
                && line.to_ascii_uppercase().ends_with(b"LAST")
    })
}

/// MAIL for the provider. What it cannot was not offered.
fn mail_line(mail: &Mail, offers: &Extensions) -> Result<String, Reply> {
    let not_offered = || Reply::new(555, "5.5.4", "A parameter was not offered");
    let from = mail.from.as_ref().map_or("", |from| from.as_str());
    let mut line = format!("MAIL FROM:<{from}>");
    if let (Some(size), true) = (mail.size, offers.sizes) {
        line += &format!(" SIZE={size}");
    }
    if mail.eight_bit && offers.eight_bit {
        line += " BODY=8BITMIME";
    }
    if mail.utf8 {
        if !offers.utf8 {
            return Err(not_offered());
        }
        line += " SMTPUTF8";
    } else if !from.is_ascii() {
        return Err(Reply::new(553, "5.6.7", "This address needs SMTPUTF8"));
    }
    for (keyword, value) in [("RET", &mail.ret), ("ENVID", &mail.envid)] {
        if let Some(value) = value {
            if !offers.dsn {
                return Err(not_offered());
            }
            line += &format!(" {keyword}={value}");
        }
    }
    Ok(line)
}

fn rcpt_line(rcpt: &Rcpt, offers: &Extensions) -> Result<String, Reply> {
    if !rcpt.to.is_ascii() && !offers.utf8 {
        return Err(Reply::new(553, "5.6.7", "The provider takes no such addresses (SMTPUTF8)"));
    }
    let mut line = format!("RCPT TO:<{}>", rcpt.to);
    for (keyword, value) in [("NOTIFY", &rcpt.notify), ("ORCPT", &rcpt.orcpt)] {
        if let Some(value) = value {
            if !offers.dsn {
                return Err(Reply::new(555, "5.5.4", "A parameter was not offered"));
            }
            line += &format!(" {keyword}={value}");
        }
    }
    Ok(line)
}
