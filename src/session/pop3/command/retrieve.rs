//! RETR and TOP: messages out of the cache, or from upstream while they arrive.
//!
//! Read with `BODY.PEEK[]`, so that nothing changes upstream. A message of ordinary size is sent when it is here, with the octets it
//! really has in the first line; a large one flows through. One that breaks off in its middle ends the connection: a dot would say
//! that it was all.

use std::time::Duration;

use tokio::time::timeout;

use crate::engine::Want;
use crate::model::Uid;
use crate::session::backend::{Body as _, BodyReads as _, Mailbox as _};
use crate::session::line::{LineIo, Stop};
use crate::session::pop3::Login;
use crate::session::pop3::maildrop::Maildrop;
use crate::session::pop3::reply::{Reply, TEMP};
use crate::session::pop3::state::{Failure, MailboxOf, Open, Session, Walk};
use crate::wire::pop3::{self, BodyWriter};

/// A message up to this size is put together before it is sent.
const AT_ONCE: u64 = 128 << 10;
/// Octets written before they are offered to the client, of a piece from disk or upstream.
const SLICE: usize = 64 << 10;
/// A message that has not begun to arrive after this long is refused: Outlook gives up after a minute without a byte.
const FIRST_OCTET: Duration = Duration::from_secs(50);
/// From the third message in a row on, the next ones are read ahead: a client that fetches its new mail one by one then does not
/// wait a round trip to the provider for each.
const RUN: u32 = 3;
/// Messages and octets read ahead: what goes unused if the client stops here is in the cache for whoever comes next.
const AHEAD: usize = 32;
const AHEAD_OCTETS: u64 = 1 << 20;

type Reads<L> = <MailboxOf<L> as crate::session::backend::Mailbox>::Reads;
type BodyOf<L> = <Reads<L> as crate::session::backend::BodyReads>::Body;

impl<L: Login> Session<L> {
    pub(crate) async fn retrieve(&mut self, number: u32) -> Result<Option<Reply>, Failure> {
        let (io, open) = self.opened()?;
        let uid = open.maildrop.message(number)?.uid;
        let body = read(io, open, number, uid).await?;
        let sent = send(io, body, open.mailbox.octets().get(&uid).copied()).await?;
        let message = open.maildrop.message(number)?;
        if sent != u64::from(open.maildrop.octets(message)) {
            open.mailbox.note_octets(uid, sent);
        }
        open.fetched.insert(uid.0);
        Ok(None)
    }

    pub(crate) async fn top(&mut self, number: u32, lines: u32) -> Result<Option<Reply>, Failure> {
        let (io, open) = self.opened()?;
        let uid = open.maildrop.message(number)?.uid;
        let mut writer = BodyWriter::top(lines);
        if lines == 0 {
            // Of the others only so that they are there when they are asked for.
            open.walk.step(&open.maildrop, number);
            let mut uids = vec![uid];
            uids.extend(open.walk.ahead(&open.maildrop));
            let want = Want { header: true, ..Want::default() };
            let asked = timeout(FIRST_OCTET, open.mailbox.summaries(&uids, want));
            let slow = |_| Reply::err("The provider does not answer now; try again later").with(TEMP);
            let summary = io.wait(asked).await?.map_err(slow)?.into_iter().next();
            let header = summary.unwrap_or(Err(crate::engine::Error::Expunged))?.header.clone();
            pop3::ok(&mut io.out, "Top of message follows");
            writer.push(&header, &mut io.out);
            writer.finish(&mut io.out);
            return Ok(None);
        }
        let mut body = read(io, open, number, uid).await?;
        pop3::ok(&mut io.out, "Top of message follows");
        while let Some(piece) = io.wait(body.chunk()).await? {
            let Ok(piece) = piece else { return Err(broken()) };
            for slice in piece.chunks(SLICE) {
                if !writer.push(slice, &mut io.out) {
                    writer.finish(&mut io.out);
                    return Ok(None);
                }
                io.flush_if_full().await?;
            }
        }
        writer.finish(&mut io.out);
        Ok(None)
    }
}

/// The message's body: the next of a walk, or read now.
async fn read<L: Login>(io: &mut LineIo, open: &mut Open<L>, number: u32, uid: Uid) -> Result<BodyOf<L>, Failure> {
    let walk = &mut open.walk;
    walk.step(&open.maildrop, number);
    if walk.coming.front() != Some(&uid) {
        let uids: Vec<Uid> = std::iter::once(uid).chain(walk.ahead(&open.maildrop)).collect();
        walk.coming = uids.iter().copied().collect();
        walk.reads = Some(open.mailbox.read(uids));
    }
    let Some(reads) = &mut walk.reads else { return Err(crate::engine::Error::Expunged.into()) };
    let next = io.wait(timeout(FIRST_OCTET, reads.next())).await;
    match next {
        Ok(Ok(Some((found, body)))) if found == uid => {
            walk.coming.pop_front();
            Ok(body?)
        }
        Ok(Ok(_)) => {
            *walk = Walk::default();
            Err(crate::engine::Error::Expunged.into())
        }
        Ok(Err(_)) => {
            *walk = Walk::default();
            Err(Reply::err("The message does not come from the provider; try again later").with(TEMP).into())
        }
        Err(stop) => Err(stop.into()),
    }
}

impl<R> Walk<R> {
    /// Counts the messages asked for one after the other.
    fn step(&mut self, maildrop: &Maildrop, number: u32) {
        // What lies between was deleted, perhaps a moment ago.
        let between = maildrop.next(self.last.saturating_add(1));
        let follows = number > self.last && between.is_none_or(|(next, _)| next >= number);
        self.run = if follows { self.run.saturating_add(1) } else { 1 };
        self.last = number;
    }

    /// What is to be read beside the message asked for last.
    fn ahead(&self, maildrop: &Maildrop) -> Vec<Uid> {
        let mut uids = Vec::new();
        let (mut from, mut octets) = (self.last.saturating_add(1), 0);
        while self.run >= RUN && uids.len() < AHEAD {
            let Some((next, message)) = maildrop.next(from) else { break };
            octets += u64::from(maildrop.octets(message));
            if octets > AHEAD_OCTETS {
                break;
            }
            uids.push(message.uid);
            from = next.saturating_add(1);
        }
        uids
    }
}

/// Sends a message whole; the octets it had, as LIST counts them. `known`: how many there are, from an earlier time.
async fn send<B: crate::session::backend::Body>(
    io: &mut LineIo,
    mut body: B,
    known: Option<u32>,
) -> Result<u64, Failure> {
    if body.len() <= AT_ONCE {
        let whole = io.wait(timeout(FIRST_OCTET, body.whole())).await?;
        let Ok(whole) = whole else {
            return Err(Reply::err("The message does not come from the provider; try again later").with(TEMP).into());
        };
        let whole = whole?;
        let before = io.out.len();
        let mut told = whole.len() as u64;
        loop {
            pop3::ok(&mut io.out, &format!("{told} octets"));
            let sent = pop3::message(&mut io.out, &whole);
            if sent == told {
                return Ok(sent);
            }
            // Rare: written once more with the right number in front.
            told = sent;
            io.out.truncate(before);
        }
    }
    let octets = known.map_or_else(|| body.len(), u64::from);
    pop3::ok(&mut io.out, &format!("{octets} octets"));
    let mut writer = BodyWriter::whole();
    while let Some(piece) = io.wait(body.chunk()).await? {
        let Ok(piece) = piece else { return Err(broken()) };
        for slice in piece.chunks(SLICE) {
            writer.push(slice, &mut io.out);
            io.flush_if_full().await?;
        }
    }
    Ok(writer.finish(&mut io.out))
}

/// In the middle of a message nothing can be said any more.
fn broken() -> Failure {
    Failure::Stop(Stop::Close)
}
