//! SEARCH and UID SEARCH: every key of RFC 3501 and RFC 9051, MODSEQ, OLDER and YOUNGER, `$`, and RETURN.

use super::{Cursor, Fault, fault};
use crate::model::{Flags, InternalDate, Keyword, ModSeq, SystemFlags};
use crate::wire::imap::command::{Command, Search, SearchKey, SearchReturn};

/// Deepest nesting of keys, since they are read and judged by recursion; a row of ORs counts once.
const MAX_DEPTH: usize = 64;
/// Most keys in one command: each is judged for each message.
const MAX_KEYS: usize = 2048;

pub(super) fn search(at: &mut Cursor<'_>, uid: bool) -> Result<Command, Fault> {
    at.space()?;
    let mut returns = None;
    if at.eat_word("RETURN") {
        at.skip_spaces();
        returns = Some(returned(at)?);
        at.space()?;
    }
    let mut charset = None;
    if at.eat_word("CHARSET") {
        charset = Some(String::from_utf8_lossy(&at.spaced_astring()?).to_ascii_uppercase());
        at.space()?;
    }
    let mut reader = Reader { keys: 0 };
    let mut keys = Vec::new();
    while keys.is_empty() || !at.at_end() {
        if !keys.is_empty() {
            at.space()?;
        }
        keys.push(reader.key(at, 0)?);
    }
    Ok(Command::Search(Search { uid, returns, charset, key: all_of(keys) }))
}

/// RFC 4731 §3.1: `RETURN ()` asks for ALL.
fn returned(at: &mut Cursor<'_>) -> Result<SearchReturn, Fault> {
    let mut returns = SearchReturn::default();
    at.list(16, |at| {
        match at.word()?.to_ascii_uppercase().as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            "SAVE" => returns.save = true,
            _ => return fault("unknown return option"),
        }
        Ok(())
    })?;
    if returns == SearchReturn::default() {
        returns.all = true;
    }
    Ok(returns)
}

fn all_of(mut keys: Vec<SearchKey>) -> SearchKey {
    if keys.len() == 1
        && let Some(key) = keys.pop()
    {
        return key;
    }
    SearchKey::And(keys)
}

/// Alternatives as a tree that is no deeper than it must be, since it is judged by recursion.
fn any_of(mut keys: Vec<SearchKey>) -> SearchKey {
    while keys.len() > 1 {
        let mut pairs = Vec::with_capacity(keys.len().div_ceil(2));
        let mut left = keys.into_iter();
        while let Some(one) = left.next() {
            pairs.push(match left.next() {
                Some(other) => SearchKey::Or(Box::new(one), Box::new(other)),
                None => one,
            });
        }
        keys = pairs;
    }
    all_of(keys)
}

fn system(flag: SystemFlags) -> SearchKey {
    SearchKey::Flag(Flags::new(flag, []))
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

struct Reader {
    keys: usize,
}

impl Reader {
    fn key(&mut self, at: &mut Cursor<'_>, depth: usize) -> Result<SearchKey, Fault> {
        self.keys += 1;
        if depth > MAX_DEPTH || self.keys > MAX_KEYS {
            return fault("search too complex");
        }
        match at.peek() {
            Some(b'(') => {
                let mut keys = Vec::new();
                at.list(MAX_KEYS, |at| {
                    keys.push(self.key(at, depth + 1)?);
                    Ok(())
                })?;
                return if keys.is_empty() { fault("empty parentheses") } else { Ok(all_of(keys)) };
            }
            Some(b'$') => {
                at.eat(b'$');
                return Ok(SearchKey::Saved);
            }
            Some(b'*' | b'0'..=b'9') => return Ok(SearchKey::Sequence(at.sequence()?)),
            _ => {}
        }
        let name = at.word()?.to_ascii_uppercase();
        Ok(match name.as_str() {
            "ALL" => SearchKey::All,
            "ANSWERED" => system(SystemFlags::ANSWERED),
            "DELETED" => system(SystemFlags::DELETED),
            "DRAFT" => system(SystemFlags::DRAFT),
            "FLAGGED" => system(SystemFlags::FLAGGED),
            "SEEN" => system(SystemFlags::SEEN),
            "UNANSWERED" => not(system(SystemFlags::ANSWERED)),
            "UNDELETED" => not(system(SystemFlags::DELETED)),
            "UNDRAFT" => not(system(SystemFlags::DRAFT)),
            "UNFLAGGED" => not(system(SystemFlags::FLAGGED)),
            "UNSEEN" => not(system(SystemFlags::SEEN)),
            "RECENT" => SearchKey::Recent,
            "NEW" => SearchKey::New,
            "OLD" => SearchKey::Old,
            "KEYWORD" => keyword(at)?,
            "UNKEYWORD" => not(keyword(at)?),
            "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => SearchKey::Header(name, at.spaced_astring()?.into_owned()),
            "HEADER" => {
                let field = String::from_utf8_lossy(&at.spaced_astring()?).into_owned();
                SearchKey::Header(field, at.spaced_astring()?.into_owned())
            }
            "BODY" => SearchKey::Body(at.spaced_astring()?.into_owned()),
            "TEXT" => SearchKey::Text(at.spaced_astring()?.into_owned()),
            "BEFORE" => SearchKey::Before(day(at)?),
            "ON" => SearchKey::On(day(at)?),
            "SINCE" => SearchKey::Since(day(at)?),
            "SENTBEFORE" => SearchKey::SentBefore(day(at)?),
            "SENTON" => SearchKey::SentOn(day(at)?),
            "SENTSINCE" => SearchKey::SentSince(day(at)?),
            "LARGER" => SearchKey::Larger(spaced_number(at)?),
            "SMALLER" => SearchKey::Smaller(spaced_number(at)?),
            "OLDER" => SearchKey::Older(interval(at)?),
            "YOUNGER" => SearchKey::Younger(interval(at)?),
            "MODSEQ" => modseq(at)?,
            "UID" => {
                at.space()?;
                if at.eat(b'$') { SearchKey::Saved } else { SearchKey::Uid(at.sequence()?) }
            }
            "NOT" => {
                at.space()?;
                not(self.key(at, depth + 1)?)
            }
            "OR" => {
                let mut alternatives = Vec::new();
                // `OR a OR b OR c d`, as programs write a long list of words: read in a row, not one within the other.
                loop {
                    at.space()?;
                    alternatives.push(self.key(at, depth + 1)?);
                    at.space()?;
                    if !at.eat_word("OR") {
                        break;
                    }
                }
                alternatives.push(self.key(at, depth + 1)?);
                any_of(alternatives)
            }
            _ => return fault("unknown search key"),
        })
    }
}

fn spaced_number(at: &mut Cursor<'_>) -> Result<u32, Fault> {
    at.space()?;
    at.number_saturating()
}

/// RFC 5032 §3: nz-number.
fn interval(at: &mut Cursor<'_>) -> Result<u32, Fault> {
    match spaced_number(at)? {
        0 => fault("an interval is at least a second"),
        seconds => Ok(seconds),
    }
}

fn keyword(at: &mut Cursor<'_>) -> Result<SearchKey, Fault> {
    let text = at.spaced_astring()?;
    let keyword = std::str::from_utf8(&text).ok().and_then(Keyword::new);
    keyword.map_or_else(
        || fault("malformed keyword"),
        |keyword| Ok(SearchKey::Flag(Flags::new(SystemFlags::default(), [keyword]))),
    )
}

/// RFC 9051 `date`, quoted or not.
fn day(at: &mut Cursor<'_>) -> Result<i64, Fault> {
    let text = at.spaced_astring()?;
    let text = String::from_utf8_lossy(&text);
    // A date alone: with more words in it this would read the time from the client's text.
    // Four digits of the year (RFC 9051 `date-year`), lest "25" be in antiquity.
    let year = text.rsplit('-').next().is_some_and(|year| year.len() == 4);
    let date = year && text.split_ascii_whitespace().count() == 1;
    let date = date.then(|| InternalDate::parse(&format!("{text} 00:00:00 +0000"))).flatten();
    date.map_or_else(|| fault("malformed date"), |date| Ok(date.local_day()))
}

/// RFC 7162 §3.1.5. The entry name narrows the search to one flag's changes, which no store of ours tells apart;
/// the RFC lets the mod-sequence of the message stand for it.
fn modseq(at: &mut Cursor<'_>) -> Result<SearchKey, Fault> {
    at.space()?;
    if at.peek() == Some(b'"') {
        at.astring()?;
        at.space()?;
        if !["ALL", "SHARED", "PRIV"].into_iter().any(|kind| at.eat_word(kind)) {
            return fault("expected all, shared or priv");
        }
        at.space()?;
    }
    Ok(SearchKey::ModSeq(ModSeq(at.number64()?)))
}
