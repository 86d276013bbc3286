//! DATA and BDAT: the message itself, passed on piece by piece; its end is the provider's to answer.

use bytes::BytesMut;

use crate::session::line::Stop;
use crate::session::smtp::state::{Failure, LARGEST, PassageOf, Relay, Session, Way, heard, largest, lost, too_large};
use crate::session::smtp::{Login, Outgoing as _, Passage};
use crate::wire::smtp::{Edit, Filter, Form, Reply};

/// A piece before the login, where nothing is done with it but to read it.
const LARGEST_BEFORE_LOGIN: u64 = 1024 * 1024;
/// The budget is asked so often while more comes than was said.
const ASK_EVERY: u64 = 1024 * 1024;

impl<L: Login> Session<L> {
    pub(super) async fn data(&mut self) -> Result<Reply, Failure> {
        let mut relay = self.begin(Form::Dotted).await?;
        self.io.out.extend_from_slice(b"354 Send the message, and a dot alone at its end\r\n");
        loop {
            let mut input = self.io.octets().await?;
            let (ended, dotted) = relay.take(&mut input);
            self.io.put_back(&input);
            self.pass_on(&mut relay, &dotted).await?;
            if ended {
                return self.finish(relay).await;
            }
        }
    }

    /// RFC 3030 §2: a piece, whose octets are read whatever becomes of it.
    pub(super) async fn bdat(&mut self, octets: u64, last: bool) -> Result<Reply, Failure> {
        let most = if self.outgoing.is_some() { LARGEST } else { LARGEST_BEFORE_LOGIN };
        if octets > most {
            // Where the next command begins is behind more octets than are worth reading.
            Reply::new(552, "5.3.4", "The message is too large").render(&mut self.io.out);
            return Err(Stop::Close.into());
        }
        let mut relay = match self.under_way() {
            Some(relay) => relay,
            None => match self.begin(Form::Plain).await {
                Ok(relay) => relay,
                Err(Failure::Reply(refusal)) => {
                    let filter = Filter::new(Form::Plain);
                    Relay { passage: None, filter, edit: None, refusal: Some(refusal), limit: LARGEST }
                }
                Err(stop @ Failure::Stop(_)) => return Err(stop),
            },
        };
        let mut left = octets;
        while left > 0 {
            let mut input = self.io.octets().await?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            let mut piece = input.split_to(count);
            self.io.put_back(&input);
            left -= count as u64;
            let (_, dotted) = relay.take(&mut piece);
            self.pass_on(&mut relay, &dotted).await?;
        }
        if last {
            return self.finish(relay).await;
        }
        match (&relay.refusal, self.mail.as_deref_mut()) {
            (None, Some(mail)) => {
                mail.way = Way::Message(relay);
                Ok(Reply::new(250, "2.0.0", format!("{octets} octets received")))
            }
            // A piece that was refused ends the transaction (RFC 3030 §3).
            (refusal, _) => {
                self.mail = None;
                Err(refusal.clone().unwrap_or_else(|| lost("")).into())
            }
        }
    }

    /// A message whose first pieces are here.
    fn under_way(&mut self) -> Option<Relay<PassageOf<L>>> {
        let mail = self.mail.as_deref_mut()?;
        match std::mem::replace(&mut mail.way, Way::Lost(lost(""))) {
            Way::Message(relay) => Some(relay),
            other => {
                mail.way = other;
                None
            }
        }
    }

    /// Brings the provider to wait for the message. A transaction that cannot go on is over.
    async fn begin(&mut self, form: Form) -> Result<Relay<PassageOf<L>>, Failure> {
        let Some(mail) = self.mail.as_deref_mut() else {
            return Err(Reply::new(503, "5.5.1", "MAIL comes first").into());
        };
        match &mail.way {
            Way::Message(_) => return Err(Reply::new(503, "5.5.1", "The message comes by BDAT").into()),
            Way::Lost(reply) => {
                let reply = reply.clone();
                self.mail = None;
                return Err(reply.into());
            }
            Way::Envelope(_) => {}
        }
        let (words, recipients) = (lost(""), mail.recipients);
        let Way::Envelope(mut passage) = std::mem::replace(&mut mail.way, Way::Lost(words.clone())) else {
            return Err(words.into());
        };
        if recipients == 0 {
            self.mail = None;
            self.io.wait(passage.rest(false)).await?;
            return Err(Reply::new(554, "5.5.1", "No recipient was taken").into());
        }
        let reply_to = self.outgoing.as_ref().and_then(|outgoing| outgoing.reply_to());
        let trace = trace(self.server.name) + &reply_to.map(Edit::field).unwrap_or_default();
        let edit = reply_to.map(|_| Edit::default());
        let answer = self.io.wait(async {
            passage.send("DATA".into()).await?;
            let reply = passage.reply().await?;
            if reply.code == 354 {
                passage.write(trace.as_bytes()).await?;
            }
            Ok::<_, String>(reply)
        });
        match answer.await? {
            Ok(reply) if reply.code == 354 => {
                let limit = self.outgoing.as_ref().map_or(LARGEST, |outgoing| largest(&outgoing.offers()));
                Ok(Relay { passage: Some(passage), filter: Filter::new(form), edit, refusal: None, limit })
            }
            // A 2xx here is no answer to DATA, and must not become one to BDAT.
            Ok(reply) if reply.is_positive() => {
                self.mail = None;
                Err(lost("it does not take DATA for what it is").into())
            }
            Ok(reply) => {
                self.mail = None;
                let refusal = match heard(reply) {
                    Ok(reply) => {
                        self.io.wait(passage.rest(false)).await?;
                        reply
                    }
                    Err(reply) => reply,
                };
                Err(refusal.into())
            }
            Err(words) => {
                self.mail = None;
                Err(lost(&words).into())
            }
        }
    }

    /// Passes dotted lines on. A provider that takes no more is given up, and the client answered when it has sent all.
    async fn pass_on(&mut self, relay: &mut Relay<PassageOf<L>>, dotted: &[u8]) -> Result<(), Stop> {
        if let Err(refusal) = self.ask_for_more(relay) {
            relay.give_up(refusal);
        }
        let Some(passage) = relay.passage.as_mut().filter(|_| !dotted.is_empty()) else { return Ok(()) };
        if let Err(words) = self.io.wait(passage.write(dotted)).await? {
            // Servers that have enough say why, and hang up.
            let early = self.io.wait(passage.last_words()).await?.filter(|reply| reply.code >= 400);
            relay.give_up(early.unwrap_or_else(|| lost(&words)));
        }
        Ok(())
    }

    /// More comes than the budget was asked for: whether it may. What was asked for before has crossed the socket, and is counted.
    fn ask_for_more(&mut self, relay: &Relay<PassageOf<L>>) -> Result<(), Reply> {
        let (Some(mail), Some(outgoing)) = (self.mail.as_deref_mut(), &self.outgoing) else { return Ok(()) };
        let octets = relay.filter.octets();
        if relay.passage.is_some() && octets > mail.granted {
            mail.grant = Box::new(());
            mail.grant = outgoing.admit(ASK_EVERY)?;
            mail.granted = octets + ASK_EVERY;
        }
        Ok(())
    }

    /// The message's end: the last line, and the provider's word on it.
    async fn finish(&mut self, mut relay: Relay<PassageOf<L>>) -> Result<Reply, Failure> {
        let mail = self.mail.take();
        let recipients = mail.as_ref().map_or(0, |mail| mail.recipients);
        let mut last = BytesMut::new();
        relay.filter.close(&mut last);
        let last = relay.edited(last);
        let octets = relay.filter.octets();
        let (reply, is_kept) = match (relay.refusal, relay.passage) {
            (Some(refusal), _) => (refusal, false),
            (None, None) => (lost(""), false),
            (None, Some(passage)) => self.conclude(passage, &last).await?,
        };
        drop(mail);
        if let Some(outgoing) = self.outgoing.as_ref().filter(|_| !is_kept) {
            outgoing.sent(&reply, recipients, octets);
        }
        Ok(reply)
    }

    /// The last piece, its dot in it, and the provider's word on the message. Where writing fails, the dot may be there all the same.
    /// True: it was kept to be sent later.
    async fn conclude(&mut self, mut passage: PassageOf<L>, last: &[u8]) -> Result<(Reply, bool), Stop> {
        let verdict = match self.io.wait(passage.write_last(last)).await? {
            Ok(()) => self.io.wait(passage.verdict()).await?,
            Err(words) => match self.io.wait(passage.last_words()).await? {
                Some(reply) if reply.code >= 400 || !passage.is_unsent() => {
                    return Ok((heard(reply).unwrap_or_else(|reply| reply), false));
                }
                // What was said before the end is no word on the message, and the end was not sent.
                _ if passage.is_unsent() => return Ok((lost(&words), false)),
                _ => Err(words),
            },
        };
        let is_kept = passage.is_kept();
        match verdict.map(heard) {
            Ok(Ok(reply)) => {
                self.io.wait(passage.rest(true)).await?;
                Ok((reply, is_kept))
            }
            Ok(Err(reply)) => Ok((reply, is_kept)),
            Err(words) => {
                let known = "The provider was lost before it answered; whether the message was sent is not known";
                Ok((Reply::new(451, "4.4.2", format!("{known}: {words}")), false))
            }
        }
    }
}

impl<P: Passage> Relay<P> {
    /// The dotted lines of what has come; true at the message's end.
    fn take(&mut self, input: &mut BytesMut) -> (bool, BytesMut) {
        let mut dotted = BytesMut::new();
        let ended = self.filter.take(input, &mut dotted);
        if self.refusal.is_none() && self.filter.is_suspect() {
            let words = "A dot alone beside a bare CR or LF: the message could end early elsewhere, and is not sent";
            self.give_up(Reply::new(550, "5.6.0", words));
        } else if self.refusal.is_none() && self.filter.octets() > self.limit {
            self.give_up(too_large(self.limit));
        }
        (ended, self.edited(dotted))
    }

    /// Dotted lines as they are to arrive.
    fn edited(&mut self, dotted: BytesMut) -> BytesMut {
        match &mut self.edit {
            Some(edit) => edit.take(&dotted),
            None => dotted,
        }
    }

    /// Nothing of it is sent: the connection closes without the message's end.
    fn give_up(&mut self, refusal: Reply) {
        self.refusal = Some(refusal);
        self.passage = None;
    }
}

/// The trace header (RFC 5321 §4.4): that it came through here, and nothing of who and where.
fn trace(name: &str) -> String {
    let now = time::OffsetDateTime::now_utc();
    let date = now.format(&time::format_description::well_known::Rfc2822).unwrap_or_default();
    format!("Received: from localhost by localhost ({name}) with ESMTPSA;\r\n\t{date}\r\n")
}
